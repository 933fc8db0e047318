"""Dask arrays of values per voxel, which are computed for groups of voxels read together."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from laion_zarr.analysis.streams.stream import ByVoxel, compiled_loops
from laion_zarr.arrays.lazy import as_run, digest, transposed

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
    read together belong to several blocks. A group that belongs to many is cut into one piece per
    block, and a block is assembled from its pieces.
    """
    name = f"{stream.label}-{tokenize(stream, digest(voxels), width)}"
    tasks, places = stream.tasks(voxels, name)
    starts = range(0, max(1, len(voxels)), width)  # one empty block if there are no voxels
    pieces: list[list[tuple[Any, Any, np.ndarray]]] = [[] for _ in starts]
    for n, where in enumerate(places):
        blocks = where // width
        part = (f"part-{name}", n)
        touched = np.unique(blocks).tolist()
        for block in touched:
            inside = np.flatnonzero(blocks == block).astype(np.int32)
            columns = (where[inside] - starts[block]).astype(np.int32)
            if len(touched) > _FEW_BLOCKS:
                piece = (f"piece-{name}", n, block)
                tasks[piece] = (_piece, part, inside)
                pieces[block].append((piece, np.arange(len(inside), dtype=np.int32), columns))
            else:
                pieces[block].append((part, inside, columns))
    widths = tuple(min(width, len(voxels) - start) for start in starts)
    for block, own in enumerate(pieces):
        keys, insides, columns_of_all = map(list, zip(*own, strict=True)) if own else ([], [], [])
        shape = (n_rows, widths[block])
        tasks[name, 0, block] = (_filled, keys, insides, columns_of_all, shape)
    graph = HighLevelGraph.from_collections(name, tasks)
    return da.Array(graph, name, ((n_rows,), widths), dtype=np.float32)


def _in_order(parts: list[np.ndarray], order: np.ndarray) -> np.ndarray:
    """Concatenate the parts; value n goes to position `order[n]`."""
    found = np.empty(len(order), dtype=np.float32)
    if parts:
        found[order] = np.concatenate(parts)
    return found


def _piece(part: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Some columns of a part, copied so that the whole can be freed."""
    return np.take(part, columns, axis=1)


def _filled(
    parts: list[np.ndarray],
    insides: list[np.ndarray],
    columns: list[np.ndarray],
    shape: tuple[int, int],
) -> np.ndarray:
    """Block whose `columns` are the columns `insides` of the parts."""
    found = np.empty(shape, dtype=np.float32)
    loops = compiled_loops()
    for part, inside, where in zip(parts, insides, columns, strict=True):
        if loops is None:
            found[:, as_run(where)] = part[:, as_run(inside)]
        else:
            loops.copy_columns(part, inside, where, found)
    return found


def place_columns(rows: np.ndarray, where: np.ndarray, block: np.ndarray) -> None:
    """Write rows (voxel, n) as the columns `where` of a block (n, column)."""
    loops = compiled_loops()
    if loops is None:
        block[:, as_run(where)] = transposed(rows)
    else:
        loops.place_columns(rows, where.astype(np.int64), block)
