"""Write an array block after block of its columns, as it is and with its axes swapped."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from laion_zarr.conversion.write.writer import PartWriter
from laion_zarr.store import codec
from laion_zarr.store.schema import ArraySpec, chunk_table


class BlockWriter:
    """Writes a large array (row, column) that is cut along both axes, each block in own shards.

    Parameters
    ----------
    writer : PartWriter
        Writer of the part that holds the array.
    spec : ArraySpec
        The array; its ``chunking`` must have blocks of columns, and chunks of one row.
    """

    def __init__(self, writer: PartWriter, spec: ArraySpec) -> None:
        assert spec.chunking is not None
        assert spec.chunking.rows == 1
        self._writer, self._spec, self._chunking = writer, spec, spec.chunking
        self._tables: list[np.ndarray] = []

    def add(self, block: np.ndarray, pool: ThreadPoolExecutor) -> None:
        """Write the next block, (row, column of the block), its shards in the threads of a pool."""
        starts = range(0, len(block), self._chunking.per_shard)
        number = len(self._tables)
        tables = pool.map(partial(self._write_shard, block, number), range(len(starts)))
        self._tables.append(np.concatenate([np.empty((0, 3), "<u8"), *tables]))

    def _write_shard(self, block: np.ndarray, number: int, shard: int) -> np.ndarray:
        first, packing = shard * self._chunking.per_shard, self._chunking.packing
        rows = block[first : first + self._chunking.per_shard]
        chunks = [codec.encode_chunk(row[None], packing) for row in rows]
        data, table = codec.join_shard(chunks, self._chunking.per_shard)
        chunks.clear()
        below = self._chunking.below(number, block.ndim)
        self._writer.put(f"{self._spec.name}/c/{shard}{below}", data)
        return table

    def finish(self, shape: tuple[int, int]) -> None:
        """Write the metadata of the array, and the table of its chunks."""
        self._writer.metadata(self._spec, shape)
        self._writer.array(chunk_table(self._spec.name), np.concatenate(self._tables))


class SwappedWriter:
    """Writes a large array (column, row), which comes in blocks of its rows: (row, column).

    A shard may reach from one block into the next: its chunks are kept, packed, until then.

    Parameters
    ----------
    writer : PartWriter
        Writer of the part that holds the array.
    spec : ArraySpec
        The array; its chunks must have all columns. A block holds whole chunks.
    """

    def __init__(self, writer: PartWriter, spec: ArraySpec) -> None:
        assert spec.chunking is not None
        assert spec.chunking.columns is None
        self._writer, self._spec, self._chunking = writer, spec, spec.chunking
        self._n_chunks = 0
        self._kept: list[bytes] = []
        self._tables: list[np.ndarray] = []

    def add(self, block: np.ndarray, pool: ThreadPoolExecutor) -> None:
        """Write the next block, (row, column), but for chunks of a shard that is not full."""
        rows, most = self._chunking.rows, self._chunking.per_shard
        starts = range(0, block.shape[1], rows)
        cut = min(most - len(self._kept), len(starts))
        shards = [starts[:cut], *(starts[lo : lo + most] for lo in range(cut, len(starts), most))]
        before = [self._kept, *([] for _ in shards[1:])]
        numbers = range(self._n_chunks // most, self._n_chunks // most + len(shards))
        for table, kept in pool.map(partial(self._pack, block), shards, before, numbers):
            self._tables.append(table)
            self._kept = kept
        self._n_chunks += len(starts)

    def _pack(
        self, block: np.ndarray, starts: range, before: list[bytes], shard: int
    ) -> tuple[np.ndarray, list[bytes]]:
        """Pack chunks of a shard; write it if it is full, else return its chunks."""
        chunks = [*before, *(self._chunk(block, start) for start in starts)]
        if len(chunks) < self._chunking.per_shard:
            return np.empty((0, 3), "<u8"), chunks
        return self._write(chunks, shard), []

    def _chunk(self, block: np.ndarray, start: int) -> bytes:
        values = np.full((self._chunking.rows, len(block)), np.nan, block.dtype)
        own = np.ascontiguousarray(block[:, start : start + self._chunking.rows])
        values[: own.shape[1]] = own.T
        return codec.encode_chunk(values, self._chunking.packing)

    def _write(self, chunks: list[bytes], shard: int) -> np.ndarray:
        data, table = codec.join_shard(chunks, self._chunking.per_shard)
        below = self._chunking.below(0, len(self._spec.dims))
        self._writer.put(f"{self._spec.name}/c/{shard}{below}", data)
        return table

    def finish(self, shape: tuple[int, int]) -> None:
        """Write the last shard, the metadata of the array, and the table of its chunks."""
        if self._kept:
            self._tables.append(self._write(self._kept, self._n_chunks // self._chunking.per_shard))
        self._writer.metadata(self._spec, shape)
        tables = [np.empty((0, 3), "<u8"), *self._tables]
        self._writer.array(chunk_table(self._spec.name), np.concatenate(tables))
