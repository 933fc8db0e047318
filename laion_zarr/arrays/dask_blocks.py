"""Dask arrays of selected betas, from which the selection can be recovered.

A computation per voxel can then read voxels in storage order, each chunk once and with all of its
trials, independently of the blocks of the Dask array.
"""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np

from laion_zarr.arrays.lazy import LazyBetas


class SelectedBetas:
    """Array-like selection of trials and voxels of a subject's betas, for `dask.array.from_array`.

    Parameters
    ----------
    betas : LazyBetas
        All betas of the subject.
    trials, voxels : numpy.ndarray of int
        Positions along the axes of `betas`.
    """

    ndim = 2

    def __init__(self, betas: LazyBetas, trials: np.ndarray, voxels: np.ndarray) -> None:
        self.betas = betas
        self.trials = trials.astype(np.int32)
        self.voxels = voxels.astype(np.int32)
        self.dtype = betas.dtype
        self.shape = (len(trials), len(voxels))

    def __getitem__(self, key: tuple[Any, ...]) -> np.ndarray:
        return self.betas.outer((self.trials[key[0]], self.voxels[key[1]]))

    def chunked(self, blocks: tuple[Any, ...], name: str) -> da.Array:
        """Dask array of the selection, with these blocks and this name."""
        meta = np.empty((0, 0), dtype=self.dtype)
        return da.from_array(self, blocks, name, asarray=False, fancy=False, meta=meta)


def source_of(data: Any) -> SelectedBetas | None:
    """Selection that a Dask array reads; None if computed from betas or if trials do not ascend."""
    if not isinstance(data, da.Array):
        return None
    # `from_array` keeps its source in a layer of this name; computed arrays have other names.
    key = f"original-{data.name}"
    kept = data.dask.layers.get(key, {}).get(key)
    source = getattr(kept, "value", kept)
    if not isinstance(source, SelectedBetas):
        return None
    # Repeated or unsorted trials give None: a trial that was selected twice must count twice.
    return source if (np.diff(source.trials) > 0).all() else None
