"""Dask arrays of selected betas, from which the selection can be recovered.

A computation per voxel can then read voxels in storage order, each chunk once and with all of its
trials, independently of the blocks of the Dask array.
"""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from laion_zarr.arrays.lazy import LazyBetas, digest
from laion_zarr.arrays.select import trial_blocks, uniform_blocks, voxel_blocks
from laion_zarr.store.schema import TRIAL, VOXEL

_JOINED = (
    "joined-"  # in the name of an array whose blocks are put together from those that are read
)


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

    def chunked(self, chunks: dict[str, Any]) -> da.Array:
        """Dask array of the selection.

        Parameters
        ----------
        chunks : dict
            Block sizes by dim, as the user wants them. A block of another dim is a session, or a
            slab, if these have one size in the selection. If not, they are read as they are, then
            put together to blocks of one size, the only ones that Zarr can write.
        """
        read = self.as_read(chunks)
        wanted = tuple(
            sizes if dim in chunks else uniform_blocks(sizes)
            for dim, sizes in zip((TRIAL, VOXEL), read.chunks, strict=True)
        )
        return joined(read, wanted)

    def as_read(self, chunks: dict[str, Any]) -> da.Array:
        """Dask array of the selection in blocks that are read by themselves: sessions, slabs."""
        ends = np.cumsum(list(self.betas.n_trials.values()))
        sessions = np.searchsorted(ends, self.trials, side="right")
        default = {TRIAL: trial_blocks(sessions), VOXEL: voxel_blocks(self.voxels)}
        blocks = tuple((default | chunks).values())
        positions = digest(self.trials), digest(self.voxels)
        name = f"betas-{tokenize(self.betas.handle, *positions, str(blocks))}"
        return self.in_blocks(blocks, name)

    def in_blocks(self, blocks: tuple[Any, ...], name: str) -> da.Array:
        """Dask array of the selection, with these blocks and this name."""
        meta = np.empty((0, 0), dtype=self.dtype)
        return da.from_array(self, blocks, name, asarray=False, fancy=False, meta=meta)


def joined(read: da.Array, blocks: tuple[tuple[int, ...], ...]) -> da.Array:
    """Array in other blocks, each put together from those of `read`, none of them made twice.

    `dask.array.Array.rechunk` gives the same, but takes three times as long to build its graph, and
    on a cluster exchanges blocks between all workers.
    """
    if blocks == read.chunks:
        return read
    name = f"{_JOINED}{read.name}"
    rows, columns = (_overlaps(*sizes) for sizes in zip(read.chunks, blocks, strict=True))
    tasks: dict[Any, Any] = {
        (name, m, n): (
            _join,
            [[(read.name, row, column) for column, _ in across] for row, _ in down],
            [cut for _, cut in down],
            [cut for _, cut in across],
        )
        for m, down in enumerate(rows)
        for n, across in enumerate(columns)
    }
    beneath: Any = [read]  # Dask's type hints do not list Array as a collection
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=beneath)
    return da.Array(graph, name, blocks, meta=read)


def _overlaps(read: tuple[int, ...], blocks: tuple[int, ...]) -> list[list[tuple[int, slice]]]:
    """For each block: the blocks read that it overlaps, and which part of them, along an axis."""
    starts, ends = np.cumsum([0, *read[:-1]]), np.cumsum(read)
    found, first = [], 0
    for size in blocks:
        last = first + size
        parts = np.flatnonzero((ends > first) & (starts < last)) if size else [0]
        found.append(
            [
                (int(n), slice(int(max(first - starts[n], 0)), int(min(last, ends[n]) - starts[n])))
                for n in parts
            ]
        )
        first = last
    return found


def _join(pieces: list[list[np.ndarray]], rows: list[slice], columns: list[slice]) -> np.ndarray:
    """One block from parts of the blocks that are read."""
    parts = [
        [piece[row, column] for piece, column in zip(line, columns, strict=True)]
        for line, row in zip(pieces, rows, strict=True)
    ]
    return parts[0][0] if len(rows) == len(columns) == 1 else np.block(parts)


def source_of(data: Any) -> SelectedBetas | None:
    """Selection that a Dask array reads; None if computed from betas or if trials do not ascend."""
    if not isinstance(data, da.Array):
        return None
    # `from_array` keeps its source in a layer of this name; computed arrays have other names.
    key = f"original-{data.name.removeprefix(_JOINED)}"
    kept = data.dask.layers.get(key, {}).get(key)
    source = getattr(kept, "value", kept)
    if not isinstance(source, SelectedBetas):
        return None
    # Repeated or unsorted trials give None: a trial that was selected twice must count twice.
    return source if (np.diff(source.trials) > 0).all() else None
