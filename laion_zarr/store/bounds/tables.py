"""Positions that a store states: chunks in shards, rows of another array, vertices of a mesh."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from laion_zarr.store.bounds.payloads import MOST_CHUNK
from laion_zarr.store.bounds.text import OutOfBounds

# What a codec may add to a chunk that it cannot make smaller, and the checksum of the chunk.
_OVERHEAD = 1 << 16


def index_bytes(per_shard: int) -> int:
    """Bytes of the index at the end of a shard: offset and size of each chunk, and a checksum."""
    return 16 * per_shard + 4


def check_table(table: np.ndarray, per_shard: int, shard_sizes: Sequence[int]) -> None:
    """Raise OutOfBounds unless a chunk table fills shards of these sizes, chunk after chunk."""
    n_chunks = len(table)
    if table.shape != (n_chunks, 3) or -(-n_chunks // per_shard) != len(shard_sizes):
        raise OutOfBounds(
            f"is a table of shape {table.shape}, expected three columns for {len(shard_sizes)} "
            f"shards of up to {per_shard} chunks"
        )
    if n_chunks and int(table[:, 1].max()) > MOST_CHUNK + _OVERHEAD:
        raise OutOfBounds(f"has a chunk of more than {MOST_CHUNK:,} bytes")
    if n_chunks and int(table[:, 2].max()) >= 1 << 32:
        raise OutOfBounds("has a checksum of more than 32 bits")
    for number, size in enumerate(shard_sizes):
        rows = table[number * per_shard : (number + 1) * per_shard].astype(np.int64)
        ends = np.cumsum(rows[:, 1])
        if (rows[:, 1] < 4).any() or not np.array_equal(rows[:, 0], ends - rows[:, 1]):
            raise OutOfBounds(f"has chunks of shard {number} that do not follow one another")
        if int(ends[-1]) + index_bytes(per_shard) != size:
            raise OutOfBounds(f"has chunks that do not fill shard {number}, of {size:,} bytes")


def check_positions(values: np.ndarray, size: int, what: str) -> None:
    """Raise OutOfBounds unless all values point into `what`, an axis of this size."""
    if not values.size:
        return
    lo, hi = int(values.min()), int(values.max())
    if lo < 0 or hi >= size:
        raise OutOfBounds(f"has values from {lo:,} to {hi:,}, and {what} has {size:,}")


def check_ascending(values: np.ndarray, size: int, what: str) -> None:
    """Raise OutOfBounds unless values ascend, each a position on `what`, an axis of this size."""
    check_positions(values, size, what)
    if not (np.diff(values) > 0).all():
        raise OutOfBounds("has a value twice, or values that do not ascend")
