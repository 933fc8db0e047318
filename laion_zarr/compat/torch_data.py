"""A subject's trials for PyTorch, as in `laion_zarr.torch_data`, whose items are tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from laion_zarr import torch_data
from laion_zarr._release import Ids
from laion_zarr._words import MaskSource
from laion_zarr.compat._convert import NumpyView
from laion_zarr.store.schema import DEFAULT_MASK

__all__ = ["LaionFMRIDataset"]


class LaionFMRIDataset(torch_data.LaionFMRIDataset):
    """As `laion_zarr.torch_data.LaionFMRIDataset`; ``rep_index`` counts over all sessions.

    Parameters
    ----------
    subject : Subject
        Subject from `laion_zarr.compat.subject.load_subject`.
    session, roi, mask, nc_threshold, image_transform, mask_source, include
        As in `laion_zarr.subject.Subject.to_torch_dataset`.
    """

    def __init__(
        self,
        subject: NumpyView,
        session: Ids | None = None,
        roi: str | Sequence[str] | None = None,
        mask: Any = None,
        nc_threshold: float | None = None,
        image_transform: Callable[[Any], Any] | None = None,
        mask_source: MaskSource = DEFAULT_MASK,
        include: str | Sequence[str] = ("image",),
    ) -> None:
        options = (roi, mask, nc_threshold, image_transform, mask_source, include)
        super().__init__(subject._labelled, session, *options)
