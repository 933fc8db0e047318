"""Large arrays: chunks are located by a chunk table, read, and verified by checksum."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from laion_zarr.store import codec
from laion_zarr.store.bounds.nodes import array_bytes
from laion_zarr.store.bounds.payloads import MOST_CHUNK
from laion_zarr.store.bounds.tables import check_table
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
        below = "/0" * (len(self.spec.dims) - 1)
        shards = [sizes.get(f"{number}{below}", 0) for number in range(len(sizes))]
        with self.stored.bounded(self.part, name):
            check_table(table, self.chunking.per_shard, shards)
        return table

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

    def gather(
        self, rows: np.ndarray, shape: tuple[int, ...]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Read every chunk that holds requested rows, once, and verify its checksum.

        Adjacent chunks of a shard are read in one request.

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
        for _, *found in gather_each([(self, shape)], rows):
            yield found[0], found[1], found[2]

    def _fetch(
        self, n_below: int, ids: np.ndarray, buffer: Memory
    ) -> list[tuple[str, _Span, np.ndarray | None]]:
        """Fetch chunks in concurrent requests, one for each span of adjacent chunks."""
        path = f"{self.stored.part(self.part).path}/{self.spec.name}"
        spans = self._spans(ids)
        requests = [
            (f"{path}/c/{span.shard}{'/0' * n_below}", (span.start, span.end)) for span in spans
        ]
        answers = fetch_spans(self.stored.store, requests, buffer)
        keys = [key for key, _ in requests]
        return list(zip(keys, spans, answers, strict=True))

    def _decode(
        self, key: str, span: _Span, data: np.ndarray | None, buffer: np.ndarray
    ) -> Iterator[np.ndarray]:
        if data is None or len(data) != span.end - span.start:
            raise damaged(self.stored.store, key, "is missing" if data is None else "is cut short")
        for offset, size, crc in self._table[span.chunks].tolist():
            start = offset - span.start
            try:
                payload = data[start : start + size]
                chunk = codec.decode_chunk(payload, self.chunking.packing, crc, buffer)
            except (ValueError, RuntimeError) as error:
                raise damaged(self.stored.store, key, f"cannot be decoded: {error}") from error
            yield chunk

    def _spans(self, ids: np.ndarray) -> list[_Span]:
        """Group ascending chunk ids into spans of adjacent chunks of a shard, one request each."""
        if ids[0] < 0 or ids[-1] >= len(self._table):
            what = f"has {len(self._table):,} chunks, and chunk {ids[-1]:,} is asked for"
            raise self.stored.refused(self.part, chunk_table(self.spec.name).name, what)
        shards = ids // self.chunking.per_shard
        cuts = np.flatnonzero((np.diff(ids) != 1) | (np.diff(shards) != 0)) + 1
        spans = []
        for run in np.split(ids, cuts):
            lo, hi = int(run[0]), int(run[-1])
            start = int(self._table[lo, 0])
            end = int(self._table[hi, 0] + self._table[hi, 1])
            spans.append(_Span(lo // self.chunking.per_shard, slice(lo, hi + 1), start, end))
        return spans


def gather_each(
    arrays: Sequence[tuple[ChunkedArray, tuple[int, ...]]], rows: np.ndarray
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Read the same rows of several arrays of equal chunk size, one array after the other.

    `arrays` pairs each array with the shape of one of its rows. While chunks are decoded, a thread
    fetches the next chunks, including those of the next array. Yields the position of the array in
    `arrays`, then the three values that `ChunkedArray.gather` yields.
    """
    if not len(rows) or not arrays:
        return
    n_rows = arrays[0][0].chunking.rows
    order = np.argsort(rows, kind="stable")
    ids, starts = np.unique(rows[order] // n_rows, return_index=True)
    wheres = np.split(order, starts[1:])
    groups = [slice(lo, lo + _CHUNKS_AT_ONCE) for lo in range(0, len(ids), _CHUNKS_AT_ONCE)]
    jobs = [(number, group) for number in range(len(arrays)) for group in groups]

    # Two buffers: the chunks in one are decoded while the next chunks are fetched into the other.
    buffers, decoded = itertools.cycle([Memory(), Memory()]), Memory()

    def fetch(job: tuple[int, slice]) -> list[tuple[str, _Span, np.ndarray | None]]:
        array, shape = arrays[job[0]]
        return array._fetch(len(shape), ids[job[1]], next(buffers))

    for (number, group), fetched in zip(jobs, _one_ahead(fetch, jobs), strict=True):
        array, shape = arrays[number]
        array.check_row(shape)
        chunk = decoded.array((n_rows, *shape), np.dtype(array.spec.dtype).newbyteorder("<"))
        chunks = (
            one for key, span, data in fetched for one in array._decode(key, span, data, chunk)
        )
        for one, where in zip(chunks, wheres[group], strict=True):
            yield number, one, rows[where] % n_rows, where


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
    chunks: slice
    start: int
    end: int
