"""`laion_zarr.compat._paths`: masks of ROIs in the mirror, found by name alone."""

from __future__ import annotations

import pytest

from laion_zarr.compat._paths import parse_roi_label, roi_mask_path

MASK = "sub-01_space-T1w_res-{}_label-FFA1_mask.nii.gz"


@pytest.mark.parametrize("res", ["1pt8", "1pt5"])
def test_a_mask_is_found_in_its_category(bids_root, res):
    path = roi_mask_path(bids_root, "sub-01", "FFA1", res=res)
    assert path == bids_root / "derivatives/rois/sub-01/face" / MASK.format(res)
    assert path.is_file()
    assert parse_roi_label(path.name, "sub-01", res) == "FFA1"


@pytest.mark.parametrize(
    "name",
    [
        MASK.format("1pt5"),
        MASK.format("1pt8").replace("sub-01", "sub-03"),
        MASK.format("1pt8").replace(".nii.gz", ".json"),
        "sub-01_hemi-L_space-fsnative_label-FFA1_mask.func.gii",
        "README",
    ],
)
def test_other_files_are_no_masks(name):
    assert parse_roi_label(name, "sub-01") is None


def test_no_such_mask(bids_root):
    with pytest.raises(FileNotFoundError, match=r"FFA9 at res-1pt8.*laion-zarr download"):
        roi_mask_path(bids_root, "sub-01", "FFA9")
