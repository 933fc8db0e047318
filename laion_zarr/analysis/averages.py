"""Averages that the store has, read where that is less than reading the betas of all trials."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from dask.base import tokenize

from laion_zarr._words import ZscoreBy
from laion_zarr.analysis.repeats import Averages, block_width, image_betas
from laion_zarr.analysis.streams.blocks import columns_of
from laion_zarr.analysis.streams.stream import ByVoxel
from laion_zarr.arrays.dask_blocks import SelectedBetas, source_of
from laion_zarr.arrays.lazy import LazyAverages, digest
from laion_zarr.store.schema import AVERAGES_PART, IMAGE, IMAGE_NAME, MEAN, MEAN_BY_VOXEL

_NAME = IMAGE_NAME.name
assert MEAN_BY_VOXEL.chunking is not None
_CHUNK = MEAN_BY_VOXEL.chunking.rows


def averages_of_images(
    betas: xr.DataArray, by: ZscoreBy | None, keep: np.ndarray, wanted: list[str] | None
) -> xr.DataArray:
    """Averages by image, from the store's averages or from its betas, whichever is less to read.

    Parameters
    ----------
    betas, by, keep
        As `image_betas` takes them: all trials, how they are z-scored, and those of the images.
    wanted : list of str or None
        Names of the images, in the order of the result; those without trials in `keep` are left
        out. None: all, sorted.

    Returns
    -------
    xarray.DataArray, (image, voxel) float32, Dask-backed
        One block per image if it is read image by image.
    """
    source = source_of(betas.data)
    assert source is not None
    n_images = len(set(betas[_NAME].values[keep].tolist())) if _NAME in betas.coords else 0
    stored = _stored(source, keep, n_images) if by == "session" and n_images else None
    found = image_betas(betas, by, keep, stored)
    if wanted is None:
        return found
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
    ways: list[StoredAverages] = [ByImage(source)]
    if MEAN_BY_VOXEL.name in handle.stored.part(AVERAGES_PART).arrays():
        ways.append(ByVoxels(source))
    best = min(ways, key=lambda way: way.nbytes_read(n_images))
    less = best.nbytes_read(n_images) < source.betas.nbytes_read(keep, source.voxels)
    return best if less else None


class StoredAverages(ABC):
    """Averages of the store, as `image_betas` takes them.

    Parameters
    ----------
    source : SelectedBetas
        The betas that they were made from.
    """

    def __init__(self, source: SelectedBetas) -> None:
        self._source, self._handle = source, source.betas.handle
        self._names = self._handle.stored.load(AVERAGES_PART, [_NAME], needed=True)[_NAME]
        self._shape = len(self._names), source.betas.shape[1]
        self._check(MEAN.name, self._shape, "images, voxels")
        if not (self._names[:-1] < self._names[1:]).all():
            raise self._handle.stored.refused(AVERAGES_PART, _NAME, "has names that do not ascend")

    def _check(self, array: str, expected: tuple[int, ...], what: str) -> None:
        shape = self._handle.stored.shape(AVERAGES_PART, array)
        if shape != expected:
            what = f"has the shape {shape}, expected {expected}: {what}"
            raise self._handle.stored.refused(AVERAGES_PART, array, what)

    @abstractmethod
    def nbytes_read(self, n_images: int) -> int:
        """Bytes to read for some images and all of the voxels."""

    def __call__(self, images: np.ndarray, voxels: np.ndarray) -> da.Array:
        """Averages of images, by name, and of voxels, by position."""
        rows = pd.Index(self._names).get_indexer(pd.Index(images))
        if (rows < 0).any():
            what = f"does not name {str(images[rows < 0][0])!r}, which was shown"
            raise self._handle.stored.refused(AVERAGES_PART, _NAME, what)
        return self._read(rows, voxels)

    @abstractmethod
    def _read(self, rows: np.ndarray, voxels: np.ndarray) -> da.Array:
        """Averages at positions of images and of voxels."""


class ByImage(StoredAverages):
    """Averages of the store, of which an image is read by itself, in a block per image."""

    def __init__(self, source: SelectedBetas) -> None:
        super().__init__(source)
        self._lazy = LazyAverages(self._handle, self._shape)

    def nbytes_read(self, n_images: int) -> int:
        """Bytes to read for some images and all of the voxels."""
        return self._lazy.nbytes_read(n_images, self._source.voxels)

    def _read(self, rows: np.ndarray, voxels: np.ndarray) -> da.Array:
        name = f"{AVERAGES_PART}-{tokenize(self._lazy, digest(rows), digest(voxels))}"
        chunks = (1,) * len(rows) or (0,), (len(voxels),)
        meta = np.empty((0, 0), dtype=self._lazy.dtype)
        picked = _Selected(self._lazy, rows, voxels)
        return da.from_array(picked, chunks, name, asarray=False, fancy=False, meta=meta)


class ByVoxels(StoredAverages):
    """Averages of the store, of which a voxel is read by itself, with all its images."""

    def __init__(self, source: SelectedBetas) -> None:
        super().__init__(source)
        self._check(MEAN_BY_VOXEL.name, self._shape[::-1], "voxels, images")

    def nbytes_read(self, n_images: int) -> int:
        """Bytes to read for all of the voxels, however few the images."""
        chunks = np.unique(self._handle.storage_order()[self._source.voxels] // _CHUNK)
        return len(chunks) * _CHUNK * self._shape[0] * np.dtype(MEAN_BY_VOXEL.dtype).itemsize

    def _read(self, rows: np.ndarray, voxels: np.ndarray) -> da.Array:
        means = _MeansOfVoxels(self._source.betas, self._shape[0], rows)
        return columns_of(means, voxels, len(rows), block_width(len(rows)))


class _Selected:
    """Array-like selection of images and voxels, for `dask.array.from_array`."""

    ndim = 2

    def __init__(self, lazy: LazyAverages, rows: np.ndarray, voxels: np.ndarray) -> None:
        self._lazy, self._rows, self._voxels = lazy, rows, voxels
        self.dtype, self.shape = lazy.dtype, (len(rows), len(voxels))

    def __getitem__(self, key: tuple[Any, ...]) -> np.ndarray:
        return self._lazy.outer((self._rows[key[0]], self._voxels[key[1]]))


@dataclass(frozen=True)
class _MeansOfVoxels(ByVoxel):
    """Averages of some images, read for a group of voxels.

    Attributes
    ----------
    n_images : int
        Number of images of the store's averages.
    images : numpy.ndarray, (image,) int
        Which of them are wanted.
    """

    label: ClassVar[str] = f"{AVERAGES_PART}-by-voxel"

    n_images: int
    images: np.ndarray

    @property
    def n_read(self) -> int:
        """Number of images."""
        return self.n_images

    def of_chunks(self, voxels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Averages of voxels, chunk after chunk."""
        array = self.betas.handle.array(AVERAGES_PART, MEAN_BY_VOXEL)
        stored = self.betas.handle.storage_order()[voxels]
        every = len(self.images) == self.n_images
        for chunk, inside, where in array.gather(stored, (self.n_images,)):
            rows = chunk[inside] if every else chunk[np.ix_(inside, self.images)]
            yield where, rows.T

    def __dask_tokenize__(self) -> Any:
        return tokenize(self.betas, self.n_images, digest(self.images))
