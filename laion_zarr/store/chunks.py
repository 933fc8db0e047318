"""Large arrays: chunks are located by a chunk table, read, and verified by checksum."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from laion_zarr.store import codec
from laion_zarr.store.bounds.nodes import array_bytes
from laion_zarr.store.bounds.payloads import MOST_CHUNK
from laion_zarr.store.bounds.tables import check_table, shards_of
from laion_zarr.store.disk import DiskStore
from laion_zarr.store.objects import Memory, damaged, fetch_spans
from laion_zarr.store.parts import StoredParts
from laion_zarr.store.schema import ArraySpec, Chunking, chunk_table

# Chunks fetched together (~0.5 MB each for betas): limits the memory beyond that of the result.
_CHUNKS_AT_ONCE = 32


@dataclass
class ChunkedArray:
    """A large array of the store, with rows in storage order and chunks of consecutive rows.

    Attributes
    ----------
    stored : StoredParts
        Open group of the store.
    part : str
        Name of the part that holds the array.
    spec : ArraySpec
        Entry of the array in the schema.
    """

    stored: StoredParts
    part: str
    spec: ArraySpec

    @cached_property
    def _table(self) -> np.ndarray:
        name = chunk_table(self.spec.name).name
        table = self.stored.load(self.part, [name], needed=True)[name]
        sizes = self.stored.part(self.part).chunks(self.spec.name)
        shards = [sizes.get(f"{number}{self._below}", 0) for number in range(len(sizes))]
        with self.stored.bounded(self.part, name):
            check_table(table, self.chunking.per_shard, shards)
        return table

    @property
    def _below(self) -> str:
        return self.chunking.below(0, len(self.spec.dims))

    @property
    def chunking(self) -> Chunking:
        """Chunk and shard sizes of the array."""
        assert self.spec.chunking is not None
        return self.spec.chunking

    def check_row(self, shape: tuple[int, ...]) -> None:
        """Raise StoreError if a chunk with rows of this shape would take too much memory."""
        nbytes = array_bytes(self.spec.dtype, (self.chunking.rows, *shape))
        if nbytes > MOST_CHUNK:
            what = f"would have chunks of {nbytes:,} bytes, expected at most {MOST_CHUNK:,}"
            raise self.stored.refused(self.part, self.spec.name, what)

    def check_ids(self, ids: np.ndarray) -> None:
        """Raise StoreError if the array has fewer chunks than ascending chunk ids say."""
        if len(ids) and (ids[0] < 0 or ids[-1] >= len(self._table)):
            what = f"has {len(self._table):,} chunks, and chunk {ids[-1]:,} is asked for"
            raise self.stored.refused(self.part, chunk_table(self.spec.name).name, what)

    def gather(
        self, rows: np.ndarray, shape: tuple[int, ...]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Read every chunk that holds requested rows, once, and verify its checksum.

        Adjacent chunks of a shard are read in one request. While chunks are decoded, a thread
        fetches the next chunks.

        Parameters
        ----------
        rows : numpy.ndarray, (n,) int
            Requested rows, in any order; a row may occur several times.
        shape : tuple of int
            Shape of one row of the array.

        Yields
        ------
        chunk : numpy.ndarray, (rows of a chunk, *shape)
            Valid until the next chunk is yielded, which may overwrite it.
        inside : numpy.ndarray of int
            Requested rows, as positions in the chunk.
        where : numpy.ndarray of int
            Positions in `rows` of these requested rows.
        """
        if not len(rows):
            return
        order = np.argsort(rows, kind="stable")
        ids, starts = np.unique(rows[order] // self.chunking.rows, return_index=True)
        wheres = np.split(order, starts[1:])
        groups = [slice(lo, lo + _CHUNKS_AT_ONCE) for lo in range(0, len(ids), _CHUNKS_AT_ONCE)]
        # Two buffers: the chunks in one are decoded while the next are fetched into the other.
        buffers = itertools.cycle([Memory(), Memory()])
        dtype = np.dtype(self.spec.dtype).newbyteorder("<")
        self.check_row(shape)
        chunk = np.empty((self.chunking.rows, *shape), dtype)

        def fetch(group: slice) -> list[tuple[str, _Span, np.ndarray | None]]:
            return self._fetch(ids[group], next(buffers))

        for group, fetched in zip(groups, _one_ahead(fetch, groups), strict=True):
            chunks = (
                one for key, span, data in fetched for one in self._decode(key, span, data, chunk)
            )
            for one, where in zip(chunks, wheres[group], strict=True):
                yield one, rows[where] % self.chunking.rows, where

    def _fetch(self, ids: np.ndarray, buffer: Memory) -> list[tuple[str, _Span, np.ndarray | None]]:
        """Fetch chunks in concurrent requests, one for each span of adjacent chunks."""
        spans = self._spans(ids)
        requests = self._requests(spans)
        answers = fetch_spans(self.stored.store, requests, buffer)
        keys = [key for key, _ in requests]
        return list(zip(keys, spans, answers, strict=True))

    def _requests(self, spans: list[_Span]) -> list[tuple[str, tuple[int, int]]]:
        """Key and byte range of each span."""
        path = f"{self.stored.part(self.part).path}/{self.spec.name}"
        return [(f"{path}/c/{span.shard}{self._below}", (span.start, span.end)) for span in spans]

    def _decode(
        self, key: str, span: _Span, data: np.ndarray | None, buffer: np.ndarray
    ) -> Iterator[np.ndarray]:
        for number in span.chunks:
            yield self._unpack(key, span, data, number, buffer)

    def _unpack(
        self, key: str, span: _Span, data: np.ndarray | None, number: int, out: np.ndarray
    ) -> np.ndarray:
        """Verify and decode one chunk of a span that was fetched."""
        if data is None or len(data) != span.end - span.start:
            raise damaged(self.stored.store, key, "is missing" if data is None else "is cut short")
        offset, size, crc = self._table[number].tolist()
        start = offset - span.start
        try:
            payload = data[start : start + size]
            return codec.decode_chunk(payload, self.chunking.packing, crc, out)
        except (ValueError, RuntimeError) as error:
            raise damaged(self.stored.store, key, f"cannot be decoded: {error}") from error

    def _spans(self, ids: np.ndarray) -> list[_Span]:
        """Group ascending chunk ids into spans of adjacent chunks of a shard, one request each."""
        self.check_ids(ids)
        return list(map(self._span, _runs(ids, self.chunking.per_shard)))

    def _span(self, run: range) -> _Span:
        """Bytes of a run of adjacent chunks."""
        start, (last, nbytes, _) = int(self._table[run[0], 0]), self._table[run[-1]].tolist()
        return _Span(run[0] // self.chunking.per_shard, run, start, last + nbytes)


@dataclass
class Block(ChunkedArray):
    """A block of columns of a large array that is cut along its second axis, too.

    Attributes
    ----------
    number : int
        Number of the block.
    table : numpy.ndarray, (chunk, 3) uint64
        Rows of the chunk table that are of the block.
    """

    number: int
    table: np.ndarray

    @property
    def _table(self) -> np.ndarray:
        return self.table

    @property
    def _below(self) -> str:
        return self.chunking.below(self.number, len(self.spec.dims))


def blocks_of(stored: StoredParts, part: str, spec: ArraySpec) -> list[Block]:
    """Blocks of columns of a large array, whose chunk table is read at once."""
    assert spec.chunking is not None
    shape, name = stored.shape(part, spec.name), chunk_table(spec.name).name
    table = stored.load(part, [name], needed=True)[name]
    with stored.bounded(part, name):
        shards_of(table, spec.chunking, shape, stored.part(part).chunks(spec.name))
    tables = np.split(table, spec.chunking.n_blocks(shape))
    return [Block(stored, part, spec, number, own) for number, own in enumerate(tables)]


def _runs(ids: np.ndarray, per_shard: int) -> list[range]:
    """Group ascending chunk ids into runs of adjacent chunks of a shard."""
    cuts = np.flatnonzero((np.diff(ids) != 1) | (np.diff(ids // per_shard) != 0)) + 1
    return [range(int(run[0]), int(run[-1]) + 1) for run in np.split(ids, cuts)]


class PackedChunks:
    """The same chunks of several arrays, as they are stored; proven when unpacked.

    All are fetched when the first is unpacked; who reads files by itself is told where they lie.

    Parameters
    ----------
    arrays : sequence of (ChunkedArray, shape)
        Arrays of one group that have equal chunk sizes, each with the shape of one of its rows.
    ids : numpy.ndarray, (chunk,) int
        Numbers of the chunks, ascending.
    memory : Memory
        Where bytes of a local store go; the chunks are valid until it is used again.
    """

    def __init__(
        self,
        arrays: Sequence[tuple[ChunkedArray, tuple[int, ...]]],
        ids: np.ndarray,
        memory: Memory,
    ) -> None:
        self.arrays = [array for array, _ in arrays]
        self._memory = memory
        # Of each array. No cached_property: in Python 3.11 one thread of all would fetch at a time.
        self._spans: list[list[tuple[str, _Span, np.ndarray | None]]] | None = None
        if not arrays:
            return
        for array, shape in arrays:
            array.check_ids(ids)
            array.check_row(shape)
        # Equal chunk sizes: the chunks of a span are the same for all arrays.
        self._runs = _runs(ids, self.arrays[0].chunking.per_shard)
        self._places = [(n, number) for n, run in enumerate(self._runs) for number in run]

    def unpack(self, array: int, chunk: int, out: np.ndarray) -> np.ndarray:
        """Verify and decode a chunk, by its position in `ids`, of an array, by its position."""
        span, number = self._places[chunk]
        if self._spans is None:
            self._spans = self._fetched()
        return self.arrays[array]._unpack(*self._spans[array][span], number, out)

    def _fetched(self) -> list[list[tuple[str, _Span, np.ndarray | None]]]:
        spans = [list(map(array._span, self._runs)) for array in self.arrays]
        requests = [array._requests(own) for array, own in zip(self.arrays, spans, strict=True)]
        store = self.arrays[0].stored.store
        answers = iter(fetch_spans(store, [one for own in requests for one in own], self._memory))
        return [
            [(key, span, next(answers)) for (key, _), span in zip(own, parts, strict=True)]
            for own, parts in zip(requests, spans, strict=True)
        ]

    def in_files(self) -> Generator[InFiles | None]:
        """Yield where each chunk lies in files of a disk, which are open until the next is asked.

        None where it lies elsewhere, or its files cannot be opened: `unpack` says what is wrong.
        """
        store = self.arrays[0].stored.store
        for run in self._runs:
            keys = [array._requests([array._span(run)])[0][0] for array in self.arrays]
            with store.held(keys) if type(store) is DiskStore else nullcontext() as descriptors:
                files = np.array(descriptors or [], np.int64)
                for number in run:
                    places = np.array([array._table[number] for array in self.arrays], np.int64)
                    yield None if descriptors is None else InFiles(files, places)


class InFiles(NamedTuple):
    """Where the same chunk of several arrays lies in open files.

    Attributes
    ----------
    descriptors : numpy.ndarray, (array,) int64
        File descriptors.
    places : numpy.ndarray, (array, 3) int64
        Rows of the chunk tables: offset in the file, size in bytes, CRC-32C.
    """

    descriptors: np.ndarray
    places: np.ndarray


def _one_ahead(work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
    """Yield the results of `work` in order; a thread computes one result ahead."""
    if len(items) < 2:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(work, items[0])
        for item in items[1:]:
            done, ahead = ahead, pool.submit(work, item)
            yield done.result()
        yield ahead.result()


@dataclass(frozen=True)
class _Span:
    """Byte range of adjacent chunks of one shard."""

    shard: int
    chunks: range
    start: int
    end: int
