"""Arrays that are written block by block: zarr-python reads back what was given."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import zarr
from zarr.storage import MemoryStore

from laion_zarr.conversion.averages.shards import SwappedWriter
from laion_zarr.conversion.write.writer import PartWriter
from laion_zarr.store.schema import MEAN_BY_VOXEL

ROWS, N_IMAGES = MEAN_BY_VOXEL.chunking.rows, 5


@pytest.mark.parametrize("per_shard", [1, 3, 8, 100])
@pytest.mark.parametrize("widths", [(1,), (ROWS, 1), (128, 128, 33), (48, 64, 16, 80), (96,)])
def test_shards_reach_from_block_to_block(per_shard, widths):
    chunking = replace(MEAN_BY_VOXEL.chunking, per_shard=per_shard)
    spec, store = replace(MEAN_BY_VOXEL, chunking=chunking), MemoryStore()
    values = np.random.default_rng(0).random((N_IMAGES, sum(widths)), np.float32)
    writer = PartWriter(store, "part")
    swapped = SwappedWriter(writer, spec)
    with ThreadPoolExecutor(3) as pool:
        for block in np.split(values, np.cumsum(widths)[:-1], axis=1):
            swapped.add(block, pool)
    swapped.finish(values.shape[::-1])
    found = zarr.open_array(store, path=f"part/{spec.name}", mode="r")
    np.testing.assert_array_equal(found[:], values.T)
    n_chunks = -(-sum(widths) // ROWS)
    shards = [key for key in writer.files if key.startswith(f"{spec.name}/c/")]
    assert len(shards) == -(-n_chunks // per_shard)
    table = zarr.open_array(store, path=f"part/{spec.name}_chunks", mode="r")
    assert table.shape == (n_chunks, 3)
