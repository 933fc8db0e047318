"""Lazy arrays over the store, for xarray's indexing, which read only the selected values."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from xarray.backends import BackendArray
from xarray.core import indexing

from laion_zarr.store.chunks import Block, ChunkedArray, PackedChunks, blocks_of
from laion_zarr.store.handle import Handle
from laion_zarr.store.objects import Memory
from laion_zarr.store.schema import (
    AVERAGES_PART,
    BETAS,
    CHUNK_VOXELS,
    MEAN,
    VOXEL,
    VOXELS_PART,
    ArraySpec,
    maps_part,
)

# Size of the tiles of a transposition: 512 cache lines are read, 512 floats written at a time.
_TILE = 512


def digest(values: np.ndarray) -> str:
    """Hash of an array for Dask's tokens, computed ten times as fast as Dask's own hash."""
    return hashlib.blake2b(np.ascontiguousarray(values).data, digest_size=16).hexdigest()


def as_run(index: np.ndarray) -> slice | np.ndarray:
    """Convert consecutive, ascending positions to a slice, which indexes without a copy."""
    run = (np.diff(index) == 1).all()
    return slice(int(index[0]), int(index[-1]) + 1) if len(index) and run else index


class SubjectHandle(Handle):
    """Open group of one subject, which caches the storage order and its large arrays."""

    def _forget(self) -> None:
        self._order: np.ndarray | None = None
        self._arrays: dict[tuple[str, str], ChunkedArray] = {}
        self._averages: list[Block] | None = None

    @property
    def subject(self) -> str:
        """Id of the subject."""
        return self.group

    def storage_order(self) -> np.ndarray:
        """Position in storage order of each voxel of the ascending (canonical) axis, (voxel,)."""
        if self._order is None:
            found = self.stored.load(VOXELS_PART, [VOXEL], needed=True)
            self.set_storage_order(found[VOXEL])
        assert self._order is not None
        return self._order

    def set_storage_order(self, stored_voxels: np.ndarray) -> None:
        """Set the storage order from voxel labels in storage order, if these are already loaded."""
        self._order = np.argsort(stored_voxels)

    def array(self, part: str, spec: ArraySpec) -> ChunkedArray:
        """Large array of a part; the array is cached, so its chunk table is read once."""
        made = ChunkedArray(self.stored, part, spec)
        return self._arrays.setdefault((part, spec.name), made)

    def averages(self) -> list[Block]:
        """Blocks of voxels of the averages, which are cached, too."""
        if self._averages is None:
            self._averages = blocks_of(self.stored, AVERAGES_PART, MEAN)
        return self._averages


class LazyArray(BackendArray, ABC):
    """Base class of lazy arrays: every key of xarray is reduced to integer positions per axis."""

    dtype: np.dtype = np.dtype("float32")

    def __init__(self, handle: Handle, shape: tuple[int, ...]) -> None:
        self.handle = handle
        self.shape = shape

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self.outer
        )

    def outer(self, key: tuple[Any, ...]) -> np.ndarray:
        """Values at the positions along each axis (outer indexing); an integer drops its axis."""
        positions = [np.arange(n)[k] for n, k in zip(self.shape, key, strict=True)]
        values = self._read(*map(np.atleast_1d, positions))
        return values[tuple(0 if np.ndim(index) == 0 else slice(None) for index in positions)]

    @abstractmethod
    def _read(self, *positions: np.ndarray) -> np.ndarray:
        """Read the values at the given positions of each axis, as an array with all axes."""

    def __deepcopy__(self, memo: dict[int, Any]) -> LazyArray:
        return self  # immutable; a copy would have to open the store again

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (type(self).__name__, self.handle.__dask_tokenize__(), self.shape)


class LazyBetas(LazyArray):
    """All betas of a subject, (trial, voxel) float32: sessions in order, voxels in C order.

    Parameters
    ----------
    handle : SubjectHandle
        Open group of the subject.
    n_trials : dict of str to int
        Number of trials of each session, in order of sessions.
    n_voxels : int
        Number of stored voxels (union of the brain masks).
    """

    handle: SubjectHandle
    spec: ClassVar[ArraySpec] = BETAS

    def __init__(self, handle: SubjectHandle, n_trials: dict[str, int], n_voxels: int) -> None:
        super().__init__(handle, (sum(n_trials.values()), n_voxels))
        self.n_trials = n_trials

    def _read(self, *positions: np.ndarray) -> np.ndarray:
        rows, cols = positions
        out = np.empty((len(rows), len(cols)), dtype=self.dtype)
        self.read_into(rows, cols, out, Memory())
        return out

    def read_into(self, rows: np.ndarray, cols: np.ndarray, out: np.ndarray, spare: Memory) -> None:
        """Read betas at positions along both axes into an array (trial, voxel)."""
        # (voxel, trial), as on disk, so that whole rows are copied out of a chunk.
        found = spare.array((len(cols), len(rows)), self.dtype)
        stored = self.handle.storage_order()[cols]
        by_storage = np.argsort(stored, kind="stable")
        first = 0
        for session, n_trials in self.n_trials.items():
            here = np.flatnonzero((rows >= first) & (rows < first + n_trials))
            if here.size and cols.size:
                pick = _Trials(n_trials, rows[here] - first, here)
                self._read_session(session, pick, stored[by_storage], by_storage, found)
            first += n_trials
        transposed(found, out)

    def _read_session(
        self,
        session: str,
        pick: _Trials,
        stored: np.ndarray,
        targets: np.ndarray,
        found: np.ndarray,
    ) -> None:
        """Copy one session to `found` (voxel, trial): row `stored[n]` to row `targets[n]`."""
        whole = pick.all_of(found.shape[1])
        betas = self.handle.array(session, self.spec)
        for chunk, inside, where in betas.gather(stored, (pick.n_trials,)):
            if whole:
                found[targets[where]] = chunk[as_run(inside)]
            else:
                found[np.ix_(targets[where], pick.out)] = chunk[np.ix_(inside, pick.trials)]

    def sessions_with(self, counted: np.ndarray) -> list[tuple[str, slice]]:
        """Sessions that have any of the trials `counted`, (trial,) bool, and where these lie."""
        ends = np.cumsum(list(self.n_trials.values())).tolist()
        spans = [slice(end - n, end) for end, n in zip(ends, self.n_trials.values(), strict=True)]
        every = zip(self.n_trials, spans, strict=True)
        return [(session, trials) for session, trials in every if counted[trials].any()]

    def nbytes_read(self, counted: np.ndarray, voxels: np.ndarray) -> int:
        """Bytes of the chunks of the sessions with trials that count, before they were packed."""
        n_trials = sum(trials.stop - trials.start for _, trials in self.sessions_with(counted))
        return self.n_chunks(voxels) * CHUNK_VOXELS * n_trials * self.dtype.itemsize

    def n_chunks(self, voxels: np.ndarray) -> int:
        """Number of chunks of a session that voxels, by position, lie in."""
        return len(_numbers(self.handle.storage_order()[voxels] // CHUNK_VOXELS))

    def packed(self, voxels: np.ndarray, counted: np.ndarray, memory: Memory) -> PackedBetas:
        """Fetch all trials of the given voxels, chunks as they are stored.

        Parameters
        ----------
        voxels : numpy.ndarray, (voxel,) int
            Positions along the voxel axis, in any order.
        counted : numpy.ndarray, (trial,) bool
            Trials that are needed; a session without any of them is not read.
        memory : Memory
            Where a local store's bytes go: what was fetched into it before becomes invalid.
        """
        sessions = self.sessions_with(counted)
        arrays = [
            (self.handle.array(name, self.spec), (self.n_trials[name],)) for name, _ in sessions
        ]
        stored = self.handle.storage_order()[voxels]
        order = np.argsort(stored, kind="stable")
        ids, starts = np.unique(stored[order] // CHUNK_VOXELS, return_index=True)
        wheres = np.split(order, starts[1:])
        rows = [(stored[where] % CHUNK_VOXELS, where) for where in wheres]
        chunks = PackedChunks(arrays, ids, memory)
        return PackedBetas(chunks, [trials for _, trials in sessions], rows)

    def by_storage(self, voxels: np.ndarray, most: int) -> Iterator[np.ndarray]:
        """Yield positions in `voxels` in storage order, at most `most` at a time.

        The voxels of a chunk are yielded together, unless they are more than `most`.
        """
        stored = self.handle.storage_order()[voxels]
        order = np.argsort(stored, kind="stable")
        chunks = stored[order] // CHUNK_VOXELS
        lo = 0
        while lo < len(order):
            hi = min(lo + most, len(order))
            if hi < len(order) and (start := int(np.searchsorted(chunks, chunks[hi]))) > lo:
                hi = start
            yield order[lo:hi]
            lo = hi


@dataclass(frozen=True)
class PackedBetas:
    """Chunks of some voxels, of several sessions, as they are stored.

    Attributes
    ----------
    chunks : PackedChunks
        The chunks, one array per session.
    trials : list of slice
        Trials of each session, on the trial axis of the subject.
    rows : list of (numpy.ndarray, numpy.ndarray)
        For each chunk: rows of the voxels in it, and positions of the voxels among those asked for.
    """

    chunks: PackedChunks
    trials: list[slice]
    rows: list[tuple[np.ndarray, np.ndarray]]

    def unpack(self, session: int, chunk: int, buffer: np.ndarray) -> np.ndarray:
        """Verify and decode a chunk into a buffer of one dim, as (voxel, trial)."""
        n_trials = self.trials[session].stop - self.trials[session].start
        return self.chunks.unpack(session, chunk, buffer.reshape(CHUNK_VOXELS, n_trials))


@dataclass(frozen=True)
class _Trials:
    """Selected trials of one session, and the columns of a block that they fill."""

    n_trials: int
    trials: np.ndarray
    out: np.ndarray

    def all_of(self, n_columns: int) -> bool:
        """Whether the block consists of all trials of this session, in order."""
        if len(self.trials) != self.n_trials or n_columns != self.n_trials:
            return False
        return bool((self.trials == self.out).all())


class LazyAverages(LazyArray):
    """Stored averages, (image, voxel) float32: images as stored, voxels in C order."""

    handle: SubjectHandle

    def _read(self, *positions: np.ndarray) -> np.ndarray:
        rows, cols = positions
        found = np.empty((len(rows), len(cols)), dtype=self.dtype)
        if not found.size:
            return found
        images, where = np.unique(rows, return_inverse=True)
        numbers, places = self._places(cols)
        blocks = self.handle.averages()
        packed = PackedChunks([(blocks[n], self._row) for n in numbers], images, Memory())
        values = np.empty((len(numbers), 1, *self._row), dtype=self.dtype)
        for chunk in range(len(images)):
            for n in range(len(numbers)):
                packed.unpack(n, chunk, values[n])
            found[where == chunk] = np.take(values, places)
        return found

    @property
    def _row(self) -> tuple[int, ...]:
        assert MEAN.chunking is not None
        return MEAN.chunking.row(self.shape)

    def _places(self, cols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Blocks that hold voxels, and the places of these in the blocks, one after the other."""
        (width,) = self._row
        blocks, inside = np.divmod(self.handle.storage_order()[cols], width)
        numbers = _numbers(blocks)
        starts = np.zeros(numbers[-1] + 1, np.intp)
        starts[numbers] = width * np.arange(len(numbers))
        return numbers, starts[blocks] + inside

    def nbytes_read(self, n_images: int, cols: np.ndarray) -> int:
        """Bytes of the chunks of some images that hold voxels, before they were packed."""
        blocks = self.handle.storage_order()[cols] // self._row[0]
        return n_images * len(_numbers(blocks)) * self._row[0] * self.dtype.itemsize


def _numbers(values: np.ndarray) -> np.ndarray:
    """The whole numbers from 0 that occur, ascending; found without a sort, which is slow."""
    return np.flatnonzero(np.bincount(values))


def transposed(values: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Transpose, copied to `out` in tiles: numpy's own copy has a cache miss at every value."""
    if out is None:
        out = np.empty(values.shape[::-1], dtype=values.dtype)
    if min(values.shape) <= _TILE // 8:
        out[...] = values.T
        return out
    for lo in range(0, values.shape[0], _TILE):
        for start in range(0, values.shape[1], _TILE // 8):
            tile = values[lo : lo + _TILE, start : start + _TILE // 8]
            out[start : start + _TILE // 8, lo : lo + _TILE] = tile.T
    return out


class LazyMap(LazyArray):
    """Map of one kind, such as R², of all sessions, (session_id, voxel) float32; NaN if missing.

    Parameters
    ----------
    handle : SubjectHandle
        Open group of the subject.
    name : str
        Name of the map.
    sessions : list of str
        Ids of the sessions, one per row.
    n_voxels : int
        Number of stored voxels (union of the brain masks).
    """

    handle: SubjectHandle

    def __init__(
        self, handle: SubjectHandle, name: str, sessions: list[str], n_voxels: int
    ) -> None:
        super().__init__(handle, (len(sessions), n_voxels))
        self.name = name
        self.sessions = sessions
        self._kept: dict[str, np.ndarray | None] = {}

    def _read(self, *positions: np.ndarray) -> np.ndarray:
        rows, cols = positions
        stored = self.handle.storage_order()[cols]
        out = np.full((len(rows), len(cols)), np.nan, dtype=self.dtype)
        for row, session in enumerate(np.array(self.sessions, dtype=object)[rows]):
            if (values := self._of_session(session)) is not None:
                out[row] = values[stored]
        return out

    def _of_session(self, session: str) -> np.ndarray | None:
        # Read at the first access, then cached: a map that is never accessed is never read.
        if session not in self._kept:
            part = maps_part(session)
            there = part in self.handle.stored.parts
            found = self.handle.stored.load(part, [self.name]) if there else {}
            values = found.get(self.name)
            if values is not None and len(values) != self.shape[1]:
                what = f"has {len(values):,} voxels, expected {self.shape[1]:,}"
                raise self.handle.stored.refused(part, self.name, what)
            self._kept[session] = values
        return self._kept[session]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": {}}

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (*super().__dask_tokenize__(), self.name)
