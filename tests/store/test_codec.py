"""Chunks and shards are, byte for byte, those that zarr-python writes."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import MemoryStore

from laion_zarr.store import codec
from laion_zarr.store.codec import encode_chunk, join_shard
from laion_zarr.store.schema import CHUNK_VOXELS, SLAB_VOXELS


@pytest.mark.parametrize("n_chunks", [1, 3])
def test_shards_are_the_bytes_that_zarr_writes(n_chunks):
    n_trials = 7
    values = np.random.default_rng(1).standard_normal((n_chunks * CHUNK_VOXELS, n_trials), "f4")
    values[3, 2] = np.nan
    memory = MemoryStore()
    array = zarr.create_array(
        memory,
        shape=values.shape,
        chunks=(CHUNK_VOXELS, n_trials),
        shards=(SLAB_VOXELS, n_trials),
        dtype="float32",
        compressors=[
            BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=4),
            Crc32cCodec(),
        ],
        fill_value=np.nan,
        config={"write_empty_chunks": True},
    )
    array[:] = values
    chunks = [encode_chunk(block, "lz4") for block in np.split(values, n_chunks)]
    shard, table = join_shard(chunks, 135)
    assert memory._store_dict["c/0/0"].to_bytes() == shard
    out = np.empty((CHUNK_VOXELS, n_trials), "f4")
    for number, (offset, size, crc) in enumerate(table.tolist()):
        codec.decode_chunk(np.frombuffer(shard, "u1")[offset : offset + size], "lz4", crc, out)
        np.testing.assert_array_equal(out, values[number * CHUNK_VOXELS :][:CHUNK_VOXELS])


def test_equal_chunks_are_equal_bytes():
    """Also of large chunks, which Blosc must not share among threads that end in any order."""
    block = np.random.default_rng(2).standard_normal((CHUNK_VOXELS, 4000), "f4")
    _, table = join_shard([encode_chunk(block, "lz4") for _ in range(30)], 135)
    assert len(np.unique(table[:, 1:], axis=0)) == 1
