"""`verify` of unfinished stores and of unusual values."""

from __future__ import annotations

import os

import nibabel as nib
import numpy as np
import pytest
from random_mirrors import SUB, Files, Session, plain_spec, same, write_mirror
from trees import tree_bytes

from laion_zarr import convert, load_subject, verify
from laion_zarr.conversion.verification.store import run_verification
from laion_zarr.errors import LaionZarrError, StoreError


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


def test_deep_verify_compares_all_but_a_changed_file(bids_root, store, copy_of):
    """One other file is one problem; what came of the other files is compared all the same."""
    mirror = copy_of(bids_root)
    whole = verify(store, bids_root, deep=True, progress=False).n_values
    (betas,) = (mirror / "derivatives/glmsingle-tedana" / "sub-01").glob(
        "ses-01/func/*SingletrialBetas_statmap.nii.gz"
    )
    image = nib.load(betas)
    values = image.get_fdata(dtype=np.float32)
    nib.save(nib.Nifti1Image(values + 1, image.affine), betas)
    report = run_verification(store, mirror, True, None, progress=False)
    (problem,) = report.problems
    assert str(betas) in problem
    n_betas = load_subject("sub-01", store).sel(session="ses-01")["betas"].size
    assert report.n_values == whole - n_betas > 0


def test_a_refused_overwrite_leaves_nothing_behind(bids_root, store, copy_of):
    mirror, target = copy_of(bids_root), copy_of(store)
    (mask,) = (mirror / "derivatives/anatomical" / "sub-01").rglob(
        "*res-1pt8_desc-brain_mask.nii.gz"
    )
    image = nib.load(mask)
    values = np.asarray(image.dataobj).copy()
    values[tuple(np.argwhere(values)[0])] = 0
    nib.save(nib.Nifti1Image(values, image.affine), mask)
    gone = next(
        (mirror / "derivatives/localizers" / "sub-01").rglob("*res-1pt8*stat-z*_statmap.nii.gz")
    )
    gone.unlink()
    with pytest.raises(LaionZarrError, match="was not overwritten"):
        convert(mirror, target, "sub-01", overwrite=True, progress=False)
    assert tree_bytes(target) == tree_bytes(store)
    verify(target, progress=False)
