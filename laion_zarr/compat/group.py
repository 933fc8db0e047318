"""Several subjects, as in `laion_zarr.group`, but with numpy arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from laion_zarr import group
from laion_zarr._release import Id, Ids
from laion_zarr._words import MaskSource
from laion_zarr.compat._convert import KeyedView, as_numpy
from laion_zarr.compat.subject import Subject
from laion_zarr.store.objects import StoreLike
from laion_zarr.store.schema import DEFAULT_MASK

__all__ = ["Group", "load_subjects"]


class Group(KeyedView):
    """Several subjects, sorted by id; as `laion_zarr.group.Group`.

    Shared images are those that every subject of the group saw, sorted by name.

    Parameters
    ----------
    subjects_dict : dict of str to Subject
        Subjects by id.
    """

    _labelled: group.Group

    def __init__(self, subjects_dict: Mapping[str, Subject]) -> None:
        subjects = [subjects_dict[one]._labelled for one in sorted(subjects_dict)]
        self._labelled = group.Group(subjects)

    def __iter__(self) -> Iterator[tuple[str, Subject]]:
        for one, subject in self._labelled:
            yield one, Subject.around(subject)

    def __getitem__(self, key: Id) -> Subject:
        return Subject.around(self._labelled[key])

    def get_shared_betas(
        self,
        session: Id | None = None,
        roi: str | Sequence[str] | None = None,
        mask: Any = None,
        nc_threshold: float | None = None,
        mask_source: MaskSource = DEFAULT_MASK,
        average: bool = False,
    ) -> dict[str, np.ndarray]:
        """Shared images' betas by subject, (trial, voxel) or averaged (image, voxel), float32."""
        found = self._labelled.get_shared_betas(
            session, roi, mask, nc_threshold, average, mask_source
        )
        return as_numpy(found)

    def get_shared_images(self, format: str = "pil") -> Any:
        """Pictures of the shared images, in the order of `get_shared_stimulus_metadata`.

        Parameters
        ----------
        format : {"pil", "numpy"}
            A list of PIL images as encoded, or (image, y, x, channel) uint8 as displayed.
        """
        if format == "numpy":
            return as_numpy(self._labelled.get_shared_images())
        if format != "pil":
            raise ValueError(f"format must be 'pil' or 'numpy', got {format!r}.")
        images = self._labelled._stimuli.images
        names = self._labelled.get_shared_stimulus_metadata()["image_name"]
        return [images.get(name, as_displayed=False) for name in names]


def load_subjects(
    subjects: Ids,
    store: StoreLike | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Group:
    """Open several subjects, or ``"all"`` subjects of the store; as `laion_zarr.load_subjects`.

    Examples
    --------
    >>> from laion_zarr.compat.group import load_subjects
    >>> betas = load_subjects("all").get_shared_betas(session="ses-01", roi="face")
    >>> betas["sub-01"].dtype
    dtype('float32')
    """
    return Group.around(group.load_subjects(subjects, store, storage_options))
