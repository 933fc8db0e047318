"""Dask arrays of selected betas, which select anew when they are indexed.

What is read follows from what is selected, however the selection was made; a computation per voxel
can read voxels in storage order, each chunk once and with all of its trials, independently of the
blocks of the Dask array.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from laion_zarr._whole import WholeArray, WholeMemory, is_small, memory_of, windows
from laion_zarr.arrays.lazy import LazyBetas, digest
from laion_zarr.arrays.select import (
    Chunks,
    cuts,
    forward,
    key_of,
    of_size,
    or_default,
    trial_blocks,
    uniform_blocks,
    voxel_blocks,
    where_given,
)

# A selection that may be in memory at once has blocks of all its trials, for what is computed along
# them.
_BLOCK_BYTES = 1 << 26


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

    def read_into(self, memory: WholeMemory, rows: slice, columns: slice) -> np.ndarray:
        """Read a block into its place in the memory of all."""
        block, spare = memory.values()[rows, columns], memory.spare()
        self.betas.read_into(self.trials[rows], self.voxels[columns], block, spare)
        memory.give_back(spare)
        return block

    def taken(self, trials: Any, voxels: Any) -> SelectedBetas:
        """Selection of this selection, by positions along its axes (slice or array)."""
        return SelectedBetas(self.betas, self.trials[trials], self.voxels[voxels])

    def chunked(self, chunks: Chunks = (None, None)) -> BetasArray:
        """Dask array of the selection.

        Parameters
        ----------
        chunks : tuple
            Block sizes along trials and voxels, as the user wants them. If both are None, blocks
            hold all trials, or, of more than 1.25 GiB, a session and a slab. Sessions and slabs
            that are not of one size in the selection are read as they are, then put together to
            blocks of one size, the only ones that Zarr can write.
        """
        return _Recipe(self, chunks, None, None, chunks).array()

    def as_read(self, chunks: Chunks = (None, None)) -> da.Array:
        """Dask array of the selection in blocks that are read by themselves: sessions, slabs."""
        blocks = or_default(chunks, self.read_blocks())
        positions = digest(self.trials), digest(self.voxels)
        what = (self.betas.handle, list(self.betas.n_trials), *positions, str(blocks))
        name = f"{self.betas.spec.name}-{tokenize(*what)}"
        meta = np.empty((0, 0), dtype=self.dtype)
        read = da.from_array(self, blocks, name, asarray=False, fancy=False, meta=meta)
        own = chunks == (None, None) and read.npartitions > 1
        return self._together(read) if own and self.is_small() else read

    def _together(self, read: da.Array) -> da.Array:
        """The same blocks, all of them read into one piece of memory."""
        name, source = f"together-{read.name}", f"source-{read.name}"
        tasks: dict[Any, Any] = {
            source: self,
            memory_of(name): (WholeMemory, self.shape, self.dtype),
        }
        rows, columns = map(windows, read.chunks)
        for m, down in enumerate(rows):
            for n, across in enumerate(columns):
                task = (SelectedBetas.read_into, source, memory_of(name), down, across)
                tasks[name, m, n] = task
        return da.Array(tasks, name, read.chunks, meta=read._meta)

    def read_blocks(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Sizes of the blocks that are read by themselves."""
        ends = np.cumsum(list(self.betas.n_trials.values()))
        sessions = np.searchsorted(ends, self.trials, side="right")
        return trial_blocks(sessions), voxel_blocks(self.voxels)

    def needs_most(self, columns: np.ndarray) -> bool:
        """Whether voxels, by position, lie in most of the chunks of all voxels, or in all."""
        few, all_ = map(self.betas.n_chunks, (self.voxels[columns], self.voxels))
        return 4 * few >= 3 * all_

    def is_small(self) -> bool:
        """Whether the selection may be in memory at once, to be put together to other blocks."""
        return is_small(self.shape, self.dtype)


@dataclass(frozen=True)
class _Recipe:
    """How the betas of a `BetasArray` are read and put together.

    Attributes
    ----------
    read : SelectedBetas
        What is read.
    chunks : tuple
        Sizes of the blocks that are read; None for sessions and slabs.
    trials, voxels : numpy.ndarray of int, optional
        Positions of those of the array among those that are read; None for all in order.
    blocks : tuple
        Sizes of the array's blocks; None where they follow from the selection.
    """

    read: SelectedBetas
    chunks: Chunks
    trials: np.ndarray | None
    voxels: np.ndarray | None
    blocks: Chunks

    def selected(self) -> SelectedBetas:
        """What the array holds."""
        return self.read.taken(*self._taken())

    def _taken(self) -> tuple[Any, Any]:
        trials, voxels = (slice(None) if p is None else p for p in (self.trials, self.voxels))
        return trials, voxels

    def indexed(self, trials: Any, voxels: Any, blocks: Chunks) -> _Recipe:
        """Recipe of a selection of the array, by positions or slices.

        `blocks` are used along the axes on which the user chose blocks. Selections share what is
        read, if they need most of its chunks. A chunk holds all trials of a session, so reading
        some of them saves nothing, and what is done by image would read it for each image.
        """
        given, every = where_given(self.blocks, blocks), map(np.arange, self.read.shape)
        rows, columns = (all_[key] for all_, key in zip(every, self._taken(), strict=True))
        rows, columns = rows[trials], columns[voxels]
        if self.read.is_small() and self.read.needs_most(columns):
            return _Recipe(self.read, self.chunks, rows, columns, given)
        return _Recipe(self.read.taken(rows, columns), given, None, None, given)

    def array(self) -> BetasArray:
        """Dask array of the recipe."""
        read = self.read.as_read(self.chunks)
        blocks = self._blocks(read)
        graph, name = _graph(read, blocks, self.trials, self.voxels)
        made = BetasArray(graph, name, blocks, meta=read._meta)
        made._made, made._recipe = name, self
        return made

    def _blocks(self, read: da.Array) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Sizes of the array's blocks: those that are given, or as they follow from `read`."""
        selected, is_all = self.selected(), self.trials is None and self.voxels is None
        trials, voxels = read.chunks if is_all else selected.read_blocks()
        if len(trials) > 1 and self.blocks == (None, None) and selected.is_small():
            n_trials, n_voxels = selected.shape
            n_blocks = -(-n_trials * n_voxels * selected.dtype.itemsize // _BLOCK_BYTES)
            return (n_trials,), of_size(-(-n_voxels // max(1, n_blocks)), n_voxels)
        given = where_given(self.blocks, read.chunks) if is_all else self.blocks
        return or_default(given, (uniform_blocks(trials), uniform_blocks(voxels)))


class BetasArray(WholeArray):
    """Dask array of betas; indexing it selects anew, so that only what is selected is read.

    It is in all else a Dask array, and what is computed from it is one. Made by
    `SelectedBetas.chunked`.
    """

    __slots__ = ("_recipe",)
    _recipe: _Recipe

    def recipe(self) -> _Recipe | None:
        """How the array is read; None if values were assigned to a part of it."""
        return self._recipe if self.as_made() else None

    def __getitem__(self, index: Any) -> da.Array:
        index = forward(index, self.shape)
        plain = super().__getitem__(index)
        recipe, key = self.recipe(), key_of(index, self.shape)
        if recipe is None or key is None or plain is self:
            return plain
        one = [np.ndim(positions) == 0 and not isinstance(positions, slice) for positions in key]
        sizes = iter(plain.chunks)
        rows, columns = ((1,) if single else next(sizes) for single in one)
        trials, voxels = (np.array([k]) if n else k for k, n in zip(key, one, strict=True))
        made = recipe.indexed(trials, voxels, (rows, columns)).array()
        return da.Array.__getitem__(made, tuple(0 if single else slice(None) for single in one))

    def copy(self) -> da.Array:
        """Copy of the array, since assignment changes it in place."""
        made = BetasArray(self.dask, self.name, self.chunks, meta=self)
        made._made, made._recipe = self._made, self._recipe
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        recipe = self.recipe()
        return super().__reduce__() if recipe is None else (_Recipe.array, (recipe,))


def source_of(data: Any) -> SelectedBetas | None:
    """Selection that a Dask array reads; None if computed from betas or if trials do not ascend.

    Slices, masks and positions that were taken of a selection are a selection, too.
    """
    recipe = data.recipe() if isinstance(data, BetasArray) else None
    source = None if recipe is None else recipe.selected()
    # Repeated or unsorted trials give None: a trial that was selected twice must count twice.
    return source if source is not None and (np.diff(source.trials) > 0).all() else None


def joined(read: da.Array, blocks: tuple[tuple[int, ...], ...]) -> da.Array:
    """Array in other blocks, each put together from those of `read`, none of them made twice.

    `dask.array.Array.rechunk` gives the same, but takes three times as long to build its graph, and
    on a cluster exchanges blocks between all workers.
    """
    graph, name = _graph(read, blocks, None, None)
    return da.Array(graph, name, blocks, meta=read)


def _graph(
    read: da.Array,
    blocks: tuple[tuple[int, ...], ...],
    rows: np.ndarray | None,
    columns: np.ndarray | None,
) -> tuple[HighLevelGraph, str]:
    """Graph of an array, and its name: rows and columns of `read` in other blocks."""
    is_all = rows is None and columns is None
    if is_all and blocks == read.chunks:
        return read.dask, read.name
    every = map(np.arange, read.shape)
    taken = [a if p is None else p for a, p in zip(every, (rows, columns), strict=True)]
    name = f"joined-{tokenize(read.name, is_all, *map(digest, taken), str(blocks))}"
    down, across = map(cuts, read.chunks, blocks, taken)
    # A block of all in order is a window of the memory that all is read into, if there is one.
    memory = memory_of(read.name) if is_all and memory_of(read.name) in read.dask else None
    places = [windows(sizes) for sizes in blocks]
    tasks: dict[Any, Any] = {
        (name, m, n): (
            _join,
            memory,
            (places[0][m], places[1][n]),
            read.dtype,
            [[(read.name, cut.block, other.block) for other in beside] for cut in lines],
            [cut.rows for cut in lines],
            [cut.rows for cut in beside],
        )
        for m, lines in enumerate(down)
        for n, beside in enumerate(across)
    }
    beneath: Any = [read]  # Dask's type hints do not list Array as a collection
    return HighLevelGraph.from_collections(name, tasks, dependencies=beneath), name


def _join(
    memory: WholeMemory | None,
    window: tuple[slice, slice],
    dtype: np.dtype,
    pieces: list[list[np.ndarray]],
    rows: list[tuple[Any, Any]],
    columns: list[tuple[Any, Any]],
) -> np.ndarray:
    """One block of parts of the blocks that are read: a window of their memory, or a copy."""
    if memory is not None and all(
        piece.base is memory.values() for line in pieces for piece in line
    ):
        return memory.values()[window]
    out = np.empty([place.stop - place.start for place in window], dtype)
    for line, (inside, where) in zip(pieces, rows, strict=True):
        for piece, (inside_too, where_too) in zip(line, columns, strict=True):
            out[_crossed(where, where_too)] = piece[_crossed(inside, inside_too)]
    return out


def _crossed(rows: Any, columns: Any) -> tuple[Any, Any]:
    """Index of rows × columns, each of them a slice or positions."""
    both = isinstance(rows, np.ndarray) and isinstance(columns, np.ndarray)
    return np.ix_(rows, columns) if both else (rows, columns)
