"""Masks of objects, as in `laion_zarr.segmentations`, but returned as numpy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from laion_zarr import segmentations
from laion_zarr.compat._convert import Closing, FromStore, KeyedView, as_numpy

__all__ = ["Segmentations"]


class ImageSegmentations(KeyedView, Closing):
    """Masks by image, or by a subject's trial; as `laion_zarr.segmentations.ImageSegmentations`."""

    def get(self, key: Any, noun: str, instance: int = 0) -> np.ndarray:
        """Mask of an object, (y, x) uint8; as `laion_zarr.segmentations.ImageSegmentations.get`."""
        return as_numpy(self._labelled.get(key, noun, instance))


class Segmentations(FromStore, ImageSegmentations):
    """Masks of objects in the shared stimuli; as `laion_zarr.segmentations.Segmentations`.

    ``[row]`` and `get` return (y, x) uint8 arrays.

    Constructed with `data_dir`, the folder that holds ``laion-fmri.zarr``, or with `store` and
    `storage_options`, as in `laion_zarr.load_stimuli`; without any, opens the default store.
    """

    _load = staticmethod(segmentations.Segmentations)
