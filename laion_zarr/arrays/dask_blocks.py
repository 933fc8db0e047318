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
from dask.local import get_sync

from laion_zarr.arrays.lazy import LazyBetas, digest
from laion_zarr.arrays.select import trial_blocks, uniform_blocks, voxel_blocks

Chunks = tuple[Any, Any]  # block sizes along trials and voxels, None where a user gives none
# In names of arrays: of one whose blocks are put together from those that are read, and of sources.
_JOINED, _SOURCE = "joined-", "original-"


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

    def chunked(self, chunks: Chunks = (None, None)) -> da.Array:
        """Dask array of the selection.

        Parameters
        ----------
        chunks : tuple
            Block sizes along trials and voxels, as the user wants them. If None, a block is a
            session, or a slab, if these have one size in the selection. If not, they are read as
            they are, then put together to blocks of one size, the only ones that Zarr can write.
        """
        read = self.as_read(chunks)
        blocks = tuple(
            uniform_blocks(given) if size is None else given
            for size, given in zip(chunks, read.chunks, strict=True)
        )
        return joined(read, blocks)

    def as_read(self, chunks: Chunks = (None, None)) -> da.Array:
        """Dask array of the selection in blocks that are read by themselves: sessions, slabs."""
        ends = np.cumsum(list(self.betas.n_trials.values()))
        sessions = np.searchsorted(ends, self.trials, side="right")
        default = trial_blocks(sessions), voxel_blocks(self.voxels)
        blocks = tuple(
            own if size is None else size for size, own in zip(chunks, default, strict=True)
        )
        positions = digest(self.trials), digest(self.voxels)
        what = (self.betas.handle, list(self.betas.n_trials), *positions, str(blocks))
        name = f"{self.betas.spec.name}-{tokenize(*what)}"
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
    """Selection that a Dask array reads; None if computed from betas or if trials do not ascend.

    Slices, masks and positions that were taken of a selection are a selection, too.
    """
    if not isinstance(data, da.Array) or data.ndim != 2:
        return None
    layers = data.dask.layers
    # `from_array` keeps its source in a layer of this name; computed arrays have other names.
    (key, *others) = [key for key in layers if key.startswith(_SOURCE)] or [None]
    if key is None or others:
        return None
    kept = layers[key].get(key)
    source = getattr(kept, "value", kept)
    if not isinstance(source, SelectedBetas):
        return None
    read = key.removeprefix(_SOURCE)
    taken = {name for name in layers if name not in (key, read, f"{_JOINED}{read}")}
    if any(not name.startswith("getitem-") for name in taken):
        return None
    picked = _picked(data, key, source) if taken else source
    # Repeated or unsorted trials give None: a trial that was selected twice must count twice.
    return picked if picked is not None and (np.diff(picked.trials) > 0).all() else None


class _Positions:
    """In the place of betas: which of their trials and voxels indexing takes, along each axis."""

    def __init__(self, trials: np.ndarray, voxels: np.ndarray) -> None:
        self.trials, self.voxels = trials, voxels

    def __getitem__(self, key: tuple[Any, Any]) -> _Positions:
        return _Positions(self.trials[key[0]], self.voxels[key[1]])

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        """Do what Dask does to put pieces together: concatenate, block, and take in order."""
        if function is np.block:
            return self._joined([self._joined(row, 1) for row in args[0]], 0)
        if function is np.concatenate:
            return self._joined(args[0], **options)
        if function is np.take:
            key = [slice(None), slice(None)]
            key[options["axis"]] = args[1]
            return args[0][tuple(key)]
        return NotImplemented

    @staticmethod
    def _joined(parts: list[_Positions], axis: int) -> _Positions:
        trials, voxels = [part.trials for part in parts], [part.voxels for part in parts]
        if axis == 0:
            return _Positions(np.concatenate(trials), voxels[0])
        return _Positions(trials[0], np.concatenate(voxels))


def _picked(data: da.Array, key: str, source: SelectedBetas) -> SelectedBetas | None:
    """Selection that indexing makes of a source; None where Dask does it in an unknown way."""
    graph = {**data.dask, key: _Positions(source.trials, source.voxels)}
    try:
        keys: Any = data.__dask_keys__()
        rows = get_sync(graph, keys)
        found = np.block(list(map(list, rows)))
    except Exception:  # of a task that another release of Dask makes, at what is no array
        return None
    if not isinstance(found, _Positions):
        return None
    picked = SelectedBetas(source.betas, found.trials, found.voxels)
    return picked if picked.shape == data.shape else None
