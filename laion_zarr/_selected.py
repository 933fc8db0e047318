"""Selected betas as Dask arrays that know where they come from.

What is computed voxel by voxel can then read voxels in the order in which they are stored, each
chunk once and all trials of it at a time, whatever the blocks of the array are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from operator import getitem
from typing import Any

import dask.array as da
import numpy as np
from dask.highlevelgraph import HighLevelGraph

from laion_zarr._lazy import LazyArray, LazyBetas


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
        """The same in Dask blocks."""
        meta = np.empty((0, 0), dtype=self.dtype)
        return da.from_array(self, blocks, name, asarray=False, fancy=False, meta=meta)

    def evenly_chunked(self, reads: Sequence[int], width: int, name: str) -> da.Array:
        """The same in Dask blocks of an even width, as Zarr wants them, cut from what is read.

        Parameters
        ----------
        reads : sequence of int
            Voxels that are read together, so that no chunk is read more often than it must.
        width : int
            Voxels of a block: it is used, and let go, before the others of what was read.
        name : str
            Of the array.
        """
        if len(reads) < 2 and self.shape[1] <= width:
            return self.chunked((-1, -1), name)
        ends = np.cumsum([0, *reads]).tolist()
        starts = list(range(0, self.shape[1], width))
        tasks: dict[Any, Any] = {f"held-{name}": self}
        pieces: list[list[Any]] = [[] for _ in starts]
        for lo, hi in pairwise(ends):
            cuts = sorted({lo, hi, *(start for start in starts if lo < start < hi)})
            tasks[f"read-{name}", lo] = (_read, f"held-{name}", cuts)
            for number, cut in enumerate(cuts[:-1]):
                tasks[f"piece-{name}", cut] = (getitem, (f"read-{name}", lo), number)
                pieces[cut // width].append((f"piece-{name}", cut))
        for number, keys in enumerate(pieces):
            tasks[name, 0, number] = (_side_by_side, keys)
        widths = tuple(np.diff([*starts, self.shape[1]]).tolist())
        graph = HighLevelGraph.from_collections(name, tasks)
        return da.Array(graph, name, ((self.shape[0],), widths), dtype=self.dtype)


def _read(selected: SelectedBetas, cuts: list[int]) -> list[np.ndarray]:
    """Read columns once, and cut them."""
    found = selected[:, cuts[0] : cuts[-1]]
    return [found[:, lo - cuts[0] : hi - cuts[0]] for lo, hi in pairwise(cuts)]


def _side_by_side(pieces: list[np.ndarray]) -> np.ndarray:
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)


def source_of(data: Any) -> SelectedBetas | None:
    """The selection that a Dask array is, as it was read; None of anything else."""
    if not isinstance(data, da.Array):
        return None
    # Where `from_array` keeps what it reads; anything computed from it has another name.
    key = f"original-{data.name}"
    kept = data.dask.layers.get(key, {}).get(key)
    source = getattr(kept, "value", kept)
    # What is averaged is not averaged again; and a trial that is named twice counts twice.
    if not isinstance(source, SelectedBetas) or not isinstance(source.betas, LazyBetas):
        return None
    return source if (np.diff(source.trials) > 0).all() else None
