"""Write large arrays row by row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from laion_zarr.conversion.write.writer import PartWriter
from laion_zarr.store import codec
from laion_zarr.store.schema import ArraySpec, chunk_table


class RowWriter:
    """Writes a large array row by row, shard after shard; keeps one shard in memory.

    Parameters
    ----------
    writer : PartWriter
        Writer of the part that holds the array.
    spec : ArraySpec
        The array; its ``chunking`` must not be None.
    row : tuple of int
        Shape of one row.
    attributes : mapping
        Provenance and further attributes of the array.
    """

    def __init__(
        self,
        writer: PartWriter,
        spec: ArraySpec,
        row: tuple[int, ...],
        attributes: Mapping[str, Any],
    ) -> None:
        assert spec.chunking is not None
        self._writer, self._spec, self._chunking = writer, spec, spec.chunking
        self._attributes = attributes
        dtype = np.dtype(spec.dtype).newbyteorder("<")
        self._fill = np.nan if dtype.kind == "f" else 0
        self._chunk = np.empty((self._chunking.rows, *row), dtype)
        self._filled = 0
        self._n_rows = 0
        self._chunks: list[bytes] = []
        self._tables: list[np.ndarray] = []

    def add(self, rows: np.ndarray) -> None:
        """Append rows."""
        self._n_rows += len(rows)
        while len(rows):
            room = self._chunking.rows - self._filled
            some, rows = rows[:room], rows[room:]
            self._chunk[self._filled : self._filled + len(some)] = some
            self._filled += len(some)
            if self._filled == self._chunking.rows:
                self._end_chunk()

    def _end_chunk(self) -> None:
        self._chunk[self._filled :] = self._fill
        self._chunks.append(codec.encode_chunk(self._chunk, self._chunking.packing))
        self._filled = 0
        if len(self._chunks) == self._chunking.per_shard:
            self._end_shard()

    def _end_shard(self) -> None:
        shard, table = codec.join_shard(self._chunks, self._chunking.per_shard)
        below = "/0" * (self._chunk.ndim - 1)
        self._writer.put(f"{self._spec.name}/c/{len(self._tables)}{below}", shard)
        self._tables.append(table)
        self._chunks.clear()

    def finish(self) -> None:
        """Write the remaining rows, the metadata of the array, and the table of its chunks."""
        if self._filled:
            self._end_chunk()
        if self._chunks:
            self._end_shard()
        shape = (self._n_rows, *self._chunk.shape[1:])
        self._writer.metadata(self._spec, shape, self._attributes)
        if self._chunking.listed:
            empty = np.empty((0, 3), "<u8")
            table = np.concatenate([empty, *self._tables])
            self._writer.array(chunk_table(self._spec.name), table)
