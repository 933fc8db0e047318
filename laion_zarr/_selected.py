"""Selected betas as Dask arrays that know where they come from.

What is computed voxel by voxel can then read voxels in the order in which they are stored, each
chunk once and all trials of it at a time, whatever the blocks of the array are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakValueDictionary

import dask.array as da
import numpy as np

from laion_zarr._lazy import LazyArray, LazyBetas

# By the name of the Dask array, which names its content: what is computed from it has another.
_SOURCES: WeakValueDictionary[str, SelectedBetas] = WeakValueDictionary()


class SelectedBetas:
    """Some trials and voxels of a subject's betas, as Dask reads arrays: block by block.

    Parameters
    ----------
    betas : LazyBetas or LazyImageBetas
        All betas of the subject.
    trials, voxels : numpy.ndarray of int
        Positions along its axes.
    """

    ndim = 2

    def __init__(self, betas: LazyArray, trials: np.ndarray, voxels: np.ndarray) -> None:
        self.betas = betas
        self.trials = trials.astype(np.int32)
        self.voxels = voxels.astype(np.int32)
        self.dtype = betas.dtype
        self.shape = (len(trials), len(voxels))

    def __getitem__(self, key: tuple[Any, ...]) -> np.ndarray:
        return self.betas.outer((self.trials[key[0]], self.voxels[key[1]]))

    def chunked(self, blocks: tuple[Any, ...], name: str) -> da.Array:
        """The same in Dask blocks; from its name `source_of` finds the way back."""
        meta = np.empty((0, 0), dtype=self.dtype)
        array = da.from_array(self, blocks, name, asarray=False, fancy=False, meta=meta)
        # What is averaged is not averaged again; and a trial that is named twice counts twice.
        if isinstance(self.betas, LazyBetas) and (np.diff(self.trials) > 0).all():
            _SOURCES[name] = self
        return array

    def by_storage(self, n_voxels: int) -> Iterator[np.ndarray]:
        """Places along the voxel axis, in blocks that lie together in the store."""
        assert isinstance(self.betas, LazyBetas)
        order = np.argsort(self.betas.handle.storage_order()[self.voxels], kind="stable")
        for lo in range(0, len(order), n_voxels):
            yield order[lo : lo + n_voxels]


def source_of(data: Any) -> SelectedBetas | None:
    """The selection that a Dask array is, as it was read; None of anything else."""
    return _SOURCES.get(data.name) if isinstance(data, da.Array) else None
