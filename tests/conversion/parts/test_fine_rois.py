"""ROI masks on the localizers' own grid: a part of its own, beside the voxel axis."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from converting import alone
from localizer_mirror import FINE_AFFINE, FINE_SHAPE, SUB, write_masks, write_volume

from laion_zarr import load_subject, verify
from laion_zarr.conversion.parts import pieces
from laion_zarr.conversion.verification.store import run_verification
from laion_zarr.errors import SourceError

ROIS = {"FFA1": "face", "OFA": "face", "PPA": "place"}


def roi_file(roi: str) -> str:
    folder = f"derivatives/rois/{SUB}/{ROIS[roi]}"
    return f"{folder}/{SUB}_space-T1w_res-1pt5_label-{roi}_mask.nii.gz"


@pytest.fixture
def mirror(tmp_path):
    root, rng = tmp_path / "mirror", np.random.default_rng(4)
    write_masks(root, rng)
    for roi in ROIS:
        write_volume(root / roi_file(roi), rng.integers(0, 2, FINE_SHAPE).astype("u1"), FINE_AFFINE)
    return root


@pytest.fixture
def target(tmp_path):
    return tmp_path / "store.zarr"


def in_file(mirror, roi):
    return np.asarray(nib.load(mirror / roi_file(roi)).dataobj) != 0


def found_in(store, roi):
    return load_subject(SUB, store).get_roi_volume(roi, "1pt5").values


def test_masks_and_unions(mirror, target):
    alone(mirror, target, parts="rois_1pt5")
    masks = {roi: in_file(mirror, roi) for roi in ROIS}
    for roi, mask in masks.items():
        np.testing.assert_array_equal(found_in(target, roi), mask)
    np.testing.assert_array_equal(found_in(target, "face"), masks["FFA1"] | masks["OFA"])
    np.testing.assert_array_equal(found_in(target, ["PPA", "OFA"]), masks["PPA"] | masks["OFA"])
    assert not verify(target, mirror, deep=True, progress=False).notes
    report = alone(mirror, target, parts="rois_1pt5")
    assert not report.converted


@pytest.mark.parametrize("roi", ROIS)
def test_another_grid(mirror, target, roi):
    path = mirror / roi_file(roi)
    write_volume(path, np.ones((5, 7, 7), "u1"), FINE_AFFINE)
    with pytest.raises(SourceError, match=r"\(5, 7, 7\).*expected|expected.*\(5, 7, 6\)") as error:
        alone(mirror, target, parts="rois_1pt5")
    assert str(path) in str(error.value)
    for other in set(ROIS) - {roi}:
        np.testing.assert_array_equal(found_in(target, other), in_file(mirror, other))
    with pytest.raises(ValueError, match=f"'{roi}'"):
        found_in(target, roi)


def test_nothing_stored_is_lost(mirror, target):
    alone(mirror, target, parts="rois_1pt5")
    was = {roi: in_file(mirror, roi) for roi in ROIS}
    (mirror / roi_file("OFA")).write_bytes(b"damaged")
    (mirror / roi_file("PPA")).unlink()
    write_volume(mirror / roi_file("FFA1"), np.ones(FINE_SHAPE, "u1"), FINE_AFFINE)
    with pytest.raises(SourceError, match="OFA"):
        alone(mirror, target, parts="rois_1pt5")
    assert found_in(target, "FFA1").all()
    for roi in ("OFA", "PPA"):
        np.testing.assert_array_equal(found_in(target, roi), was[roi])
    assert not verify(target, progress=False).problems


def test_an_empty_mask(mirror, target):
    write_volume(mirror / roi_file("PPA"), np.zeros(FINE_SHAPE, "u1"), FINE_AFFINE)
    alone(mirror, target, parts="rois_1pt5")
    assert not found_in(target, "PPA").any()
    assert not verify(target, mirror, deep=True, progress=False).problems


def test_verify_finds_wrong_voxels(mirror, target, monkeypatch):
    honest = pieces.read_mask
    monkeypatch.setattr(pieces, "read_mask", lambda *its: (~honest(*its)[0], honest(*its)[1]))
    alone(mirror, target, parts="rois_1pt5")
    assert not run_verification(target, mirror, False, None, False).problems
    problems = run_verification(target, mirror, True, None, False).problems
    assert len(problems) == len(ROIS)
