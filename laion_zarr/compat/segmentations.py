"""Masks of objects, as in `laion_zarr.segmentations`, but returned as numpy arrays."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from laion_zarr import segmentations
from laion_zarr.compat._convert import Closing, KeyedView, as_numpy, store_in
from laion_zarr.store.objects import StoreLike

__all__ = ["Segmentations"]


class ImageSegmentations(KeyedView, Closing):
    """Masks by image, or by a subject's trial; as `laion_zarr.segmentations.ImageSegmentations`."""

    def get(self, key: Any, noun: str, instance: int = 0) -> np.ndarray:
        """Mask of an object, (y, x) uint8; as `laion_zarr.segmentations.ImageSegmentations.get`."""
        return as_numpy(self._labelled.get(key, noun, instance))


class Segmentations(ImageSegmentations):
    """Masks of objects in the shared stimuli; as `laion_zarr.segmentations.Segmentations`.

    ``[row]`` and `get` return (y, x) uint8 arrays.

    Parameters
    ----------
    data_dir : str or os.PathLike, optional
        Folder that holds ``laion-fmri.zarr``. If not provided, the default store.
    store, storage_options
        Store to open instead of the store in `data_dir`, as in `laion_zarr.load_stimuli`.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        store: StoreLike | None = None,
        storage_options: dict[str, Any] | None = None,
    ) -> None:
        self._labelled = segmentations.Segmentations(store_in(data_dir, store), storage_options)
