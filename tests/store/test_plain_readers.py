"""The store as others see it: plain zarr and xarray, byte for byte the same, proven when read."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.metadata.v3 import ArrayV3Metadata
from zarr.storage import MemoryStore

from laion_zarr import convert, load_subject
from laion_zarr.errors import StoreError
from laion_zarr.store import codec
from laion_zarr.store.codec import encode_chunk, join_shard
from laion_zarr.store.schema import CHUNK_VOXELS, SLAB_VOXELS


def tree_bytes(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_opens_as_a_datatree_without_laion_zarr(store, sub):
    """In a process that never imports laion_zarr; labels readable, no warning."""
    code = f"""
import sys, warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", message="Engine 'laion_zarr' loading failed")
sys.modules["laion_zarr"] = None
import xarray as xr
tree = xr.open_datatree({str(store)!r}, engine="zarr")
session = tree["sub-01/ses-01"].to_dataset()
voxels = tree["sub-01/voxels"].to_dataset()
roi = voxels["roi_mask"].sel(roi="FFA1", voxel=voxels["in_anatomical"].values)
mine = session["betas"].sel(voxel=roi["voxel"].values[roi.values])
values = mine.sortby("voxel").transpose("trial", "voxel")
print(values["image_name"].values[0], float(values.isel(trial=3).sum()), values.shape)
print(session["betas"].attrs["units"], "|", session["voxel"].attrs["description"])
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    first, second = result.stdout.strip().splitlines()
    ours = sub.get_betas(session="ses-01", roi="FFA1")
    name, total, shape = first.split(" ", 2)
    assert name == ours["image_name"].values[0]
    assert float(total) == pytest.approx(float(ours[3].sum()), rel=1e-5)
    assert shape == str(ours.shape)
    assert second == (
        "percent signal change | flat C-order index into the functional grid, in storage order"
    )


@pytest.mark.parametrize("group", ["voxels", "trials", "ses-01", "maps/ses-02", "anatomy"])
def test_each_group_opens_with_open_zarr(store, group):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = xr.open_zarr(f"{store}/sub-01/{group}", consolidated=False).load()
    for name, variable in dataset.variables.items():
        assert variable.dims, name
        assert "description" in variable.attrs, name


def test_plain_zarr_reads_what_we_read(store, sub):
    betas = zarr.open_array(f"{store}/sub-01/ses-01/betas", mode="r")
    voxel = zarr.open_array(f"{store}/sub-01/ses-01/voxel", mode="r")[:]
    everything = sub.sel(session="ses-01")["betas"]
    order = np.argsort(voxel)
    np.testing.assert_array_equal(everything["voxel"].values, voxel[order])
    np.testing.assert_array_equal(everything.values, betas[:][order].T)


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
    """Also large ones: Blosc must not share them among threads, which end in any order."""
    block = np.random.default_rng(2).standard_normal((CHUNK_VOXELS, 4000), "f4")
    _, table = join_shard([encode_chunk(block, "lz4") for _ in range(30)], 135)
    assert len(np.unique(table[:, 1:], axis=0)) == 1


def test_metadata_is_what_zarr_writes(store, copy_of):
    """Array by array, and consolidated: the converter spells it out, zarr-python agrees."""
    for path in store.rglob("zarr.json"):
        node = json.loads(path.read_bytes())
        if node["node_type"] == "array":
            parsed = ArrayV3Metadata.from_dict(node).to_buffer_dict(default_buffer_prototype())
            assert parsed["zarr.json"].to_bytes() == path.read_bytes(), path
    again = copy_of(store)
    with warnings.catch_warnings():  # files of ours, and what is not yet in the Zarr text
        warnings.filterwarnings("ignore", "Consolidated", UserWarning)
        warnings.filterwarnings("ignore", "Object at", UserWarning)
        zarr.consolidate_metadata(again, zarr_format=3)
    assert (again / "zarr.json").read_bytes() == (store / "zarr.json").read_bytes()


def test_every_array_says_what_it_is(store):
    for path in store.rglob("zarr.json"):
        node = json.loads(path.read_bytes())
        if node["node_type"] == "array":
            assert all(node["dimension_names"])
            assert node["attributes"]["description"]
            codecs = json.dumps(node["codecs"])
            assert '"crc32c"' in codecs
    # open_datatree aligns a parent's dims with its children's: no arrays above the parts.
    for group in (store, store / "sub-01", store / "stimuli"):
        arrays = [p for p in group.glob("*/zarr.json") if b'"array"' in p.read_bytes()]
        assert not arrays


def test_a_reader_never_sees_a_store_rewritten_under_it(bids_root, store, copy_of, tmp_path):
    """Opened before an overwrite with other voxels: an error, never the new bytes as the old."""
    old = copy_of(store)
    lazy = load_subject("01", old).get_betas(roi="face")
    convert(bids_root, old, subjects="01", mask="anatomical", overwrite=True, progress=False)
    with pytest.raises(StoreError, match="open it again"):
        lazy.load()
    again = load_subject("01", old).get_betas(roi="face").values
    np.testing.assert_array_equal(again, load_subject("01", store).get_betas(roi="face").values)
