"""`verify` gives zarr nothing to decode but what a store has; all checksums here are right."""

from __future__ import annotations

import json
import shutil
import struct

import numpy as np
import pytest
from numcodecs import zstd
from strangers import Forge, Hole, _chunk_key, decoded, encoded, seal_chunk, zeros_frame

from laion_zarr import verify
from laion_zarr.errors import StoreError


@pytest.fixture(scope="module")
def forge(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vetting")
    return Forge(shutil.copytree(store, folder / "s.zarr"), folder / "outside")


def refused(forge: Forge, change: dict) -> str:
    made = forge.apply(change)
    try:
        with pytest.raises(StoreError) as caught:
            verify(forge.root, progress=False)
    finally:
        forge.undo(made)
    assert not verify(forge.root, progress=False).problems
    return str(caught.value)


def changed(forge: Forge, key: str, **entries: object) -> dict:
    node = json.loads(forge.whole[key])
    return {key: json.dumps(node | entries, indent=2).encode()}


GZIP = [{"name": "bytes"}, {"name": "gzip", "configuration": {"level": 5}}, {"name": "crc32c"}]


@pytest.mark.parametrize(
    ("node", "entries"),
    [
        ("sub-01/voxels/voxel", {"codecs": GZIP}),
        ("sub-01/voxels/voxel", {"codecs": [{"name": "numcodecs.pickle"}]}),
        ("sub-01/voxels/voxel", {"storage_transformers": [{"name": "x"}]}),
        ("sub-01/voxels/voxel", {"must_understand": True}),
        ("sub-01/voxels/voxel", {"fill_value": [1]}),
        ("sub-01/voxels/voxel", {"zarr_format": 2}),
        ("sub-01/voxels/voxel", {"chunk_grid": {"name": "rectangular"}}),
        ("sub-01/voxels/voxel", {"chunk_key_encoding": {"name": "v2"}}),
        ("sub-01/ses-01/betas", {"codecs": GZIP}),
        ("sub-01/ses-01/betas", {"shape": [1 << 40, 24]}),
        ("sub-01/ses-01/betas", {"dimension_names": None}),
        ("sub-01/voxels", {"node_type": "array"}),
        ("sub-01/voxels", {"consolidated_metadata": {}}),
    ],
)
def test_metadata_that_no_store_has(forge, node, entries):
    key = f"{node}/zarr.json"
    assert str(forge.root / key) in refused(forge, changed(forge, key, **entries))


def test_strings_are_counted_before_they_are_made(forge):
    name = "sub-01/trials/session"
    plain = zstd.decompress(forge.whole[f"{name}/c/0"][:-4])
    for count in (0, 1 << 24, 2**32 - 1):
        more = struct.pack("<I", count) + plain[4:]
        text = refused(forge, {f"{name}/c/0": seal_chunk(bytes(zstd.compress(more, 3)))})
        assert f"{forge.root / name}/c/0 cannot be decoded" in text


@pytest.mark.parametrize("size", [1 << 31, 1 << 40])
def test_holes_as_large_as_listed_are_not_read(forge, size):
    for key in ("sub-01/voxels/voxel/c/0", "sub-01/ses-01/betas/c/0/0"):
        assert "at most" in refused(forge, {key: Hole(size)})


def test_bombs_and_an_index_that_differs(forge):
    name = "sub-01/ses-01/betas"
    shard, table = forge.whole[f"{name}/c/0/0"], decoded(forge.whole, f"{name}_chunks")
    index = np.frombuffer(shard[-(135 * 16 + 4) : -4], "<u8").reshape(-1, 2).copy()
    index[1] = index[0]
    tail = seal_chunk(index.tobytes())
    text = refused(forge, {f"{name}/c/0/0": shard[: -len(tail)] + tail})
    assert "its index differs from the chunk table" in text
    first = shard[: int(table[0, 1])]
    bomb = bytearray(first[:-4])
    bomb[4:8] = struct.pack("<I", 2**31 - 1)
    chunk = seal_chunk(bytes(bomb))
    table[0, 2] = int.from_bytes(chunk[-4:], "little")
    change = {
        f"{name}/c/0/0": chunk + shard[len(chunk) :],
        _chunk_key(forge.whole, f"{name}_chunks"): encoded(table),
    }
    assert "inflates to 2,147,483,647 bytes" in refused(forge, change)
    small = "sub-01/voxels/roi_mask"
    bomb = zeros_frame(decoded(forge.whole, small).nbytes, 1 << 31)
    text = refused(forge, {_chunk_key(forge.whole, small): seal_chunk(bomb)})
    assert "inflates to 2,147,483,648 bytes" in text
