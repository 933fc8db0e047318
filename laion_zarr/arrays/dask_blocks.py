"""Selected betas as Dask arrays that know where they come from.

What is computed voxel by voxel can then read voxels in the order in which they are stored, each
chunk once and all trials of it at a time, whatever the blocks of the array are.
"""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np

from laion_zarr.arrays.lazy import LazyBetas


class SelectedBetas:
    """Some trials and voxels of a subject's betas, as Dask reads arrays: block by block.

    Parameters
    ----------
    betas : LazyBetas
        All betas of the subject.
    trials, voxels : numpy.ndarray of int
        Positions along its axes.
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
        """The same in Dask blocks."""
        meta = np.empty((0, 0), dtype=self.dtype)
        return da.from_array(self, blocks, name, asarray=False, fancy=False, meta=meta)


def source_of(data: Any) -> SelectedBetas | None:
    """The selection that a Dask array is, as it was read; None of anything else."""
    if not isinstance(data, da.Array):
        return None
    # Where `from_array` keeps what it reads; anything computed from it has another name.
    key = f"original-{data.name}"
    kept = data.dask.layers.get(key, {}).get(key)
    source = getattr(kept, "value", kept)
    if not isinstance(source, SelectedBetas):
        return None
    # A trial that is named twice counts twice.
    return source if (np.diff(source.trials) > 0).all() else None
