"""Array and group metadata are those that zarr-python writes."""

from __future__ import annotations

import json
import warnings

import zarr
from converting import alone
from zarr.core.buffer import default_buffer_prototype
from zarr.core.metadata.v3 import ArrayV3Metadata


def test_nan_in_a_sidecar_stays_json(bids_root, copy_of, tmp_path):
    mirror = copy_of(bids_root)
    for path in mirror.rglob("sub-01_ses-01*Betas_statmap.json"):
        path.write_text('{"Threshold": NaN}')
    alone(mirror, tmp_path / "s.zarr", subjects="01", sessions="01")
    text = (tmp_path / "s.zarr" / "sub-01" / "ses-01" / "betas" / "zarr.json").read_text()

    def refuse(constant):
        raise AssertionError(constant)

    node = json.loads(text.replace('"NaN"', '""'), parse_constant=refuse)
    assert node["attributes"]["sidecar"] == {"Threshold": None}


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
