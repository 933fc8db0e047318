"""Positions that a store states: chunks in shards, rows of another array, vertices of a mesh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from laion_zarr.store.bounds.payloads import MOST_CHUNK
from laion_zarr.store.bounds.text import OutOfBounds
from laion_zarr.store.schema import Chunking

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


def shards_of(
    table: np.ndarray, chunking: Chunking, shape: Sequence[int], sizes: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Rows of the chunk table of each shard of an array, by key below ``c/``, block after block.

    Raises OutOfBounds unless the table fills the shards, whose `sizes` in bytes are by key.
    """
    n_blocks, per_shard = chunking.n_blocks(shape), chunking.per_shard
    n_chunks = -(-shape[0] // chunking.rows)
    if len(table) != n_blocks * n_chunks:
        raise OutOfBounds(f"has {len(table):,} chunks, expected {n_blocks * n_chunks:,}")
    found: dict[str, np.ndarray] = {}
    for block in range(n_blocks):
        rows = table[block * n_chunks : (block + 1) * n_chunks]
        below, starts = chunking.below(block, len(shape)), range(0, n_chunks, per_shard)
        keys = [f"{number}{below}" for number in range(len(starts))]
        check_table(rows, per_shard, [sizes.get(key, 0) for key in keys])
        found |= {key: rows[lo : lo + per_shard] for key, lo in zip(keys, starts, strict=True)}
    return found


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
