"""`verify` of unfinished stores and of unusual values."""

from __future__ import annotations

import os

import numpy as np
import pytest
from random_mirrors import SUB, Files, Session, plain_spec, same, write_mirror

from laion_zarr import convert, load_subject, verify
from laion_zarr.errors import StoreError


def test_verify_of_an_unfinished_store_says_one_thing(bids_root, store, copy_of):
    target = copy_of(store)
    os.unlink(target / "manifest.json")  # noqa: PTH108
    with pytest.raises(StoreError, match="1 problems") as caught:
        verify(target, progress=False)
    assert "did not finish" in str(caught.value)


def test_verify_is_silent_about_huge_numbers(tmp_path):
    """A float64 beta beyond float32 is infinite in the store, as the rounding has it."""
    root, store = tmp_path / "mirror", tmp_path / "s.zarr"
    days = (Session("ses-01", 3, "<f8", "infinite", (), False),)
    write_mirror(plain_spec(sessions=days), root)
    convert(root, store, n_workers=1, progress=False)
    files = Files(root)
    betas = load_subject(SUB, store).sel()["betas"].values
    assert np.isinf(betas).any()
    same(betas, files.betas[:, files.union])
    assert not verify(store, root, deep=True, progress=False).notes


def test_verify_is_silent_about_empty_labels(tmp_path):
    """A region may lie in one hemisphere alone; its other label has no vertex."""
    root, store = tmp_path / "mirror", tmp_path / "s.zarr"
    write_mirror(plain_spec(), root)
    for path in root.glob(f"derivatives/rois/{SUB}/*/*.label"):
        path.write_text("#!ascii label\n0\n")
    convert(root, store, n_workers=1, progress=False)
    assert not verify(store, root, deep=True, progress=False).notes
    data = load_subject(SUB, store).get_roi_data("EBA", "label", "L")
    assert data["EBA"]["gii"]["hemi-L"]["label"].tolist() == []
