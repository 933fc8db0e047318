"""Averages that the store has, read where that is less than reading the betas of all trials."""

from __future__ import annotations

import warnings
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from dask.base import tokenize

from laion_zarr._words import ZscoreBy
from laion_zarr.analysis.repeats import Averages, image_betas
from laion_zarr.arrays.dask_blocks import SelectedBetas, source_of
from laion_zarr.arrays.lazy import LazyAverages, digest
from laion_zarr.store.schema import AVERAGES_PART, IMAGE, IMAGE_NAME, MEAN

_NAME = IMAGE_NAME.name


def betas_of_images(
    betas: xr.DataArray, by: ZscoreBy | None, keep: np.ndarray, wanted: list[str]
) -> xr.DataArray:
    """Averages of some images, from the store's averages or from its betas.

    Parameters
    ----------
    betas, by, keep
        As `image_betas` takes them: all trials, how they are z-scored, and those of the images.
    wanted : list of str
        Names of the images, in the order of the result; those without trials in `keep` are left
        out.

    Returns
    -------
    xarray.DataArray, (image, voxel) float32, Dask-backed
        One block per image if it is read from the averages.
    """
    source = source_of(betas.data)
    assert source is not None
    n_images = len(set(betas[_NAME].values[keep].tolist()))
    stored = _stored(source, keep, n_images) if by == "session" else None
    found = image_betas(betas, by, keep, stored)
    order = found.indexes[IMAGE].get_indexer(pd.Index(wanted, dtype=object))
    order = order[order >= 0]
    as_is = np.array_equal(order, np.arange(len(found)))
    return found if as_is else found.isel({IMAGE: order})


def _stored(source: SelectedBetas, keep: np.ndarray, n_images: int) -> Averages | None:
    """The store's averages, if it has those of the betas, and if they are less to read.

    If they are of other betas, a warning says so.
    """
    handle = source.betas.handle
    if AVERAGES_PART not in handle.stored.parts:
        return None
    if message := handle.stored.stale_averages:
        warnings.warn(f"{message} Until then, betas are averaged anew.", stacklevel=4)
        return None
    averages = StoredAverages(source)
    less = averages.nbytes_read(n_images) < source.betas.nbytes_read(keep, source.voxels)
    return averages if less else None


class StoredAverages:
    """Averages of the store, as `image_betas` takes them.

    Parameters
    ----------
    source : SelectedBetas
        The betas that they were made from.
    """

    def __init__(self, source: SelectedBetas) -> None:
        handle = source.betas.handle
        names = handle.stored.load(AVERAGES_PART, [_NAME], needed=True)[_NAME]
        shape, expected = handle.stored.shape(AVERAGES_PART, MEAN.name), source.betas.shape[1]
        if shape != (len(names), expected):
            what = f"has the shape {shape}, expected {(len(names), expected)}: images, voxels"
            raise handle.stored.refused(AVERAGES_PART, MEAN.name, what)
        if not (names[:-1] < names[1:]).all():
            raise handle.stored.refused(AVERAGES_PART, _NAME, "has names that do not ascend")
        self._lazy, self._names, self._voxels = LazyAverages(handle, shape), names, source.voxels

    def nbytes_read(self, n_images: int) -> int:
        """Bytes to read for some images and all of the voxels."""
        return self._lazy.nbytes_read(n_images, self._voxels)

    def __call__(self, images: np.ndarray, voxels: np.ndarray) -> da.Array:
        """Averages of images, by name, and of voxels, by position, in a block per image."""
        rows = pd.Index(self._names).get_indexer(pd.Index(images))
        if (rows < 0).any():
            what = f"does not name {str(images[rows < 0][0])!r}, which was shown"
            raise self._lazy.handle.stored.refused(AVERAGES_PART, _NAME, what)
        name = f"{AVERAGES_PART}-{tokenize(self._lazy, digest(rows), digest(voxels))}"
        chunks = (1,) * len(rows) or (0,), (len(voxels),)
        meta = np.empty((0, 0), dtype=self._lazy.dtype)
        picked = _Selected(self._lazy, rows, voxels)
        return da.from_array(picked, chunks, name, asarray=False, fancy=False, meta=meta)


class _Selected:
    """Array-like selection of images and voxels, for `dask.array.from_array`."""

    ndim = 2

    def __init__(self, lazy: LazyAverages, rows: np.ndarray, voxels: np.ndarray) -> None:
        self._lazy, self._rows, self._voxels = lazy, rows, voxels
        self.dtype, self.shape = lazy.dtype, (len(rows), len(voxels))

    def __getitem__(self, key: tuple[Any, ...]) -> np.ndarray:
        return self._lazy.outer((self._rows[key[0]], self._voxels[key[1]]))
