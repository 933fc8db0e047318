"""zarr and xarray read the stimuli of a store without laion_zarr."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
import zlib

import pytest
import xarray as xr
from stimulus_parts import MODELS
from stimulus_parts import files as files
from stimulus_parts import names as names

from laion_zarr import load_stimuli


def test_plain_xarray_reads_the_same(store, names, files):
    """In a process that never imports laion_zarr, without a warning."""
    code = f"""
import io, sys, warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", message="Engine 'laion_zarr' loading failed")
sys.modules["laion_zarr"] = None
import xarray as xr, zlib
tree = xr.open_datatree({str(store)!r}, engine="zarr")["stimuli"]
pictures = tree["images"].to_dataset().load()
ends = pictures["start"] + pictures["nbytes"]
for name, start, end in zip(*(a.values for a in (pictures["image_name"], pictures["start"], ends))):
    print(zlib.crc32(pictures["data"].values[start:end].tobytes()), name)
for model in {MODELS!r}:
    own = tree[f"embeddings/{{model}}"].to_dataset().load()
    print(model, own["embedding"].dtype, int(own["embedding"].isnull().any("feature").sum()))
masks = tree["segmentations"].to_dataset().load()
print([int(n) for n in masks["masks"].sum(("y", "x")).values])
print(repr("|".join(tree["captions"].to_dataset()["caption"].values)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    expected = [f"{zlib.crc32(files[name])} {name}" for name in names]
    assert lines[: len(names)] == expected
    stim = load_stimuli(store)
    for line, model in zip(lines[len(names) :], MODELS, strict=False):
        invalid = int(stim.embeddings[model].isnull().any("feature").sum())
        assert line == f"{model} float16 {invalid}"
    areas = stim.segmentations.masks.sum(("y", "x")).values.tolist()
    assert json.loads(lines[-2]) == areas
    assert lines[-1] == repr("|".join(stim.captions.metadata["caption"]))


@pytest.mark.parametrize(
    "group", ["metadata", "images", "embeddings/CLIP", "segmentations", "captions"]
)
def test_each_group_opens_with_open_zarr(store, group):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = xr.open_zarr(f"{store}/stimuli/{group}", consolidated=False).load()
    assert dataset.variables
    for name, variable in dataset.variables.items():
        assert variable.dims, name
        assert "description" in variable.attrs, name
