"""zarr and xarray read the store without laion_zarr; every array is described."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
import xarray as xr
import zarr


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
