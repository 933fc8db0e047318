"""Write an array block after block of its columns, each block in shards of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from laion_zarr.conversion.write.writer import PartWriter
from laion_zarr.store import codec
from laion_zarr.store.schema import ArraySpec, chunk_table


class BlockWriter:
    """Writes a large array (row, column) that is cut along both axes.

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
