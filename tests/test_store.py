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
from zarr.storage import MemoryStore

from laion_zarr import _codec, convert, load_subject
from laion_zarr._codec import encode_shard
from laion_zarr._schema import CHUNK_VOXELS, SLAB_VOXELS
from laion_zarr._store import dump_manifest, open_store, parse_manifest
from laion_zarr.errors import NotConvertedError, StoreError


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
    shard, table = encode_shard(np.split(values, n_chunks))
    assert memory._store_dict["c/0/0"].to_bytes() == shard
    out = np.empty((CHUNK_VOXELS, n_trials), "f4")
    for number, (offset, size, crc) in enumerate(table.tolist()):
        _codec.decode_chunk(np.frombuffer(shard, "u1")[offset : offset + size], crc, out)
        np.testing.assert_array_equal(out, values[number * CHUNK_VOXELS :][:CHUNK_VOXELS])


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


def test_manifest_round_trip_and_any_flipped_byte(store):
    opened = open_store(store)
    data = (store / "sub-01" / "manifest.json").read_bytes()
    manifest = parse_manifest(opened, "m", data)
    assert dump_manifest(manifest) == data
    rng = np.random.default_rng(0)
    for position in rng.choice(len(data), 300, replace=False):
        changed = bytearray(data)
        changed[position] ^= 1 << int(rng.integers(8))
        with pytest.raises(StoreError, match=r"m |schema version"):
            parse_manifest(opened, "m", bytes(changed))


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[len(data) // 2] ^= 0x10
    elif how == "cut":
        del data[-9:]
    elif how == "emptied":
        data.clear()
    path.unlink() if how == "removed" else path.write_bytes(data)


LARGE = "laiongeneral"
FILES = [
    "sub-01/manifest.json",
    "sub-01/ses-01/betas/c/0/0",
    "sub-01/ses-01/betas_chunks/zarr.json",
    "sub-01/ses-01/betas_chunks/c/0/0",
    "sub-01/voxels/zarr.json",
    "sub-01/voxels/roi_mask/c/0/0",
    "sub-01/voxels/voxel/zarr.json",
    "sub-01/trials/image_name/c/0",
    "zarr.json",
]


@pytest.mark.parametrize("how", ["flipped", "cut", "emptied", "removed"])
@pytest.mark.parametrize("file", FILES)
def test_damage_is_an_error_or_the_right_answer(store, sub, copy_of, file, how):
    broken = copy_of(store)
    damage(broken / file, how)
    expected = sub.get_betas(session="ses-01", roi=LARGE).values
    try:
        values = load_subject("01", broken).get_betas(session="ses-01", roi=LARGE).values
    except (StoreError, NotConvertedError) as raised:
        error = raised
    else:
        np.testing.assert_array_equal(values, expected)
        return
    assert str(broken) in str(error)
    assert "laion-zarr" in str(error)


def test_shards_that_changed_places_are_found(store, copy_of):
    broken = copy_of(store)
    one, other = (broken / f"sub-01/{ses}/betas/c/0/0" for ses in ("ses-01", "ses-02"))
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)
    with pytest.raises(StoreError, match=r"betas/c/0/0"):
        load_subject("01", broken).get_betas(session="ses-01", roi=LARGE).load()


def test_a_reader_never_sees_a_store_rewritten_under_it(bids_root, store, copy_of, tmp_path):
    """Opened before an overwrite with other voxels: an error, never the new bytes as the old."""
    old = copy_of(store)
    lazy = load_subject("01", old).get_betas(roi="face")
    convert(bids_root, old, subjects="01", mask="anatomical", overwrite=True, progress=False)
    with pytest.raises(StoreError, match="open it again"):
        lazy.load()
    again = load_subject("01", old).get_betas(roi="face").values
    np.testing.assert_array_equal(again, load_subject("01", store).get_betas(roi="face").values)
