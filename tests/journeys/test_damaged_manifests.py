"""Damaged manifests of a subject: no session, map or other subject is lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from converting import alone

from laion_zarr import load_subject, verify
from laion_zarr.errors import LaionZarrError, StoreError

pytestmark = pytest.mark.minutes


def break_manifest(store: Path) -> None:
    path = store / "sub-01" / "manifest.json"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("options", [{"sessions": "01"}, {"parts": "anatomy"}])
@pytest.mark.parametrize("lost", [False, True])
def test_damaged_manifest_is_not_mended_in_part(bids_root, store, copy_of, options, lost):
    broken = copy_of(store)
    if lost:
        (broken / "sub-01" / "manifest.json").unlink()
    else:
        break_manifest(broken)
    before = {path for path in broken.rglob("*") if path.is_file()}
    with pytest.raises(StoreError, match="without --ses and --parts"):
        alone(bids_root, broken, subjects="01", overwrite=True, **options)
    with pytest.raises(LaionZarrError, match="manifest"):
        alone(bids_root, broken, subjects="01")
    assert {path for path in broken.rglob("*") if path.is_file()} >= before
    alone(bids_root, broken, subjects="01", overwrite=True)
    np.testing.assert_array_equal(
        load_subject("01", broken).get_betas().values, load_subject("01", store).get_betas().values
    )
    assert not verify(broken, progress=False).problems


@pytest.mark.parametrize("gone", ["*ses-02*Betas_statmap.nii.gz", "*hemi-L*EBA*func.gii", "*R2_*"])
def test_damaged_manifest_and_files_gone(bids_root, store, copy_of, gone):
    broken, mirror = copy_of(store), copy_of(bids_root)
    break_manifest(broken)
    for path in mirror.rglob(gone):
        path.unlink()
    with pytest.raises(LaionZarrError, match="could not be converted again"):
        alone(mirror, broken, subjects="01", overwrite=True)


def test_one_subjects_damage_leaves_the_others_whole(bids_root, store, copy_of):
    broken = copy_of(store)
    (broken / "sub-03" / "manifest.json").write_bytes(b"{")
    with pytest.raises(StoreError, match="sub-03"):
        alone(bids_root, broken, subjects="01", overwrite=True)
    root = json.loads((broken / "zarr.json").read_bytes())
    assert "sub-01/ses-01/betas" in root["consolidated_metadata"]["metadata"]
