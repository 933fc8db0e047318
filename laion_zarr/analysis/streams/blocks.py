"""Dask arrays of values per voxel, which are computed for groups of voxels read together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from laion_zarr._whole import (
    WholeArray,
    WholeMemory,
    Written,
    is_small,
    memory_of,
    windows,
)
from laion_zarr.analysis.streams.stream import ByVoxel, copy_columns
from laion_zarr.arrays.lazy import digest

# Blocks that a group of voxels may lie in without being cut: it is in memory until all are made.
_FEW_BLOCKS = 4


def values_of(stream: ByVoxel, voxels: np.ndarray) -> da.Array:
    """Dask array of one value per voxel, (voxel,) float32, in one block."""
    name = f"by-voxel-{tokenize(stream, digest(voxels))}"
    tasks, places = stream.tasks(voxels, name)
    parts = [(f"part-{name}", n) for n in range(len(places))]
    order = np.concatenate([np.empty(0, np.intp), *places]).astype(np.int32)
    tasks[name, 0] = (_in_order, parts, order)
    graph = HighLevelGraph.from_collections(name, tasks)
    return da.Array(graph, name, ((len(voxels),),), dtype=np.float32)


def columns_of(stream: ByVoxel, voxels: np.ndarray, n_rows: int, width: int) -> da.Array:
    """Dask array of several values per voxel, (row, voxel) float32, in blocks of `width` voxels.

    Zarr requires chunks of equal size, and C order differs from storage order: the voxels that are
    read together belong to several blocks. If all may be in memory at once, each group is written
    to its place there, and blocks are windows of it. Else, and for selections, blocks are assembled
    from the groups; one that belongs to many blocks is first cut into a piece for each.
    """
    make = partial(_made, stream, voxels, n_rows, width)
    if not is_small((n_rows, len(voxels)), np.dtype(np.float32)):
        return da.Array(*make(False))
    found = _Columns(*make(True))
    found._made, found._apart = found.name, cache(lambda: da.Array(*make(False)))
    return found


class _Columns(WholeArray):
    """Array whose blocks are windows of one memory; those of a selection are not."""

    __slots__ = ("_apart",)
    _apart: Callable[[], da.Array]

    def __getitem__(self, index: Any) -> da.Array:
        plain = super().__getitem__(index)
        return self._apart()[index] if plain is not self and self.as_made() else plain


def _made(
    stream: ByVoxel, voxels: np.ndarray, n_rows: int, width: int, together: bool
) -> tuple[HighLevelGraph, str, tuple[tuple[int, ...], ...], np.dtype]:
    """Graph, name, chunks and dtype of `columns_of`, in one memory or not."""
    name = f"{stream.label}-{tokenize(stream, digest(voxels), width, together)}"
    dtype, memory = np.dtype(np.float32), memory_of(name) if together else None
    tasks, places = stream.tasks(voxels, name, memory)
    starts = range(0, max(1, len(voxels)), width)  # one empty block if there are no voxels
    widths = tuple(min(width, len(voxels) - start) for start in starts)
    pieces: list[list[_Piece]] = [[] for _ in starts]
    for n, where in enumerate(places):
        for block, piece in _pieces((f"part-{name}", n), where, width):
            if memory is None and piece.is_one_of_many:
                key = (f"piece-{name}", n, block)
                tasks[key] = (_columns, piece.part, piece.inside)
                piece = _Piece(key, np.arange(len(piece.inside), dtype=np.int32), piece.columns)
            pieces[block].append(piece)
    if memory is not None:
        tasks[memory] = (WholeMemory, (n_rows, len(voxels)), dtype)
    for block, (own, window) in enumerate(zip(pieces, windows(widths), strict=True)):
        parts, insides, columns = ([piece[k] for piece in own] for k in range(3))
        tasks[name, 0, block] = (_filled, memory, n_rows, window, parts, insides, columns)
    return HighLevelGraph.from_collections(name, tasks), name, ((n_rows,), widths), dtype


class _Piece(NamedTuple):
    """What a block takes of a part: its key, which of its columns, and where these go."""

    part: tuple[Any, ...]
    inside: np.ndarray
    columns: np.ndarray
    is_one_of_many: bool = False


def _pieces(part: tuple[Any, ...], where: np.ndarray, width: int) -> Iterator[tuple[int, _Piece]]:
    """Blocks that the columns `where` of a part belong to, and what they take."""
    blocks = where // width
    touched = np.unique(blocks).tolist()
    for block in touched:
        inside = np.flatnonzero(blocks == block).astype(np.int32)
        columns = (where[inside] - block * width).astype(np.int32)
        yield block, _Piece(part, inside, columns, len(touched) > _FEW_BLOCKS)


def _in_order(parts: list[np.ndarray], order: np.ndarray) -> np.ndarray:
    """Concatenate the parts; value n goes to position `order[n]`."""
    found = np.empty(len(order), dtype=np.float32)
    if parts:
        found[order] = np.concatenate(parts)
    return found


def _columns(part: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Some columns of a part, copied so that the whole can be freed."""
    return np.take(part, columns, axis=1)


def _filled(
    memory: WholeMemory | None,
    n_rows: int,
    window: slice,
    parts: list[np.ndarray | Written],
    insides: list[np.ndarray],
    columns: list[np.ndarray],
) -> np.ndarray:
    """Block whose `columns` are the columns `insides` of the parts, if not written there before."""
    if memory is None or not memory.is_of_all():
        found = np.empty((n_rows, window.stop - window.start), np.float32)
    else:
        found = memory.values()[:, window]
    for part, inside, where in zip(parts, insides, columns, strict=True):
        if not isinstance(part, Written):
            copy_columns(part, inside, where, found)
    return found
