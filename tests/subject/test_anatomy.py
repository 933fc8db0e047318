"""Paths of anatomical and FreeSurfer files in the mirror."""

from __future__ import annotations

import pytest
from source_answers import ANAT, SUB

from laion_zarr.errors import DataDirNotSetError, DataNotDownloadedError


def test_anatomy_is_in_the_mirror(sub, bids_root, monkeypatch):
    assert not sub.has_anatomical()  # no mirror is known
    with pytest.raises(DataDirNotSetError):
        sub.get_t1w()
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", str(bids_root))
    assert sub.has_anatomical()
    assert sub.get_anatomical_dir() == (bids_root / ANAT).parent
    assert sub.get_t1w() == bids_root / f"{ANAT}_T1w.nii.gz"
    assert sub.get_t1w("1pt8") == bids_root / f"{ANAT}_res-1pt8_T1w.nii.gz"
    assert sub.get_t2w() == bids_root / f"{ANAT}_T2w.nii.gz"
    assert sub.get_anatomical_brain_mask() == bids_root / f"{ANAT}_desc-brain_mask.nii.gz"
    assert sub.get_t1w().is_file()


def test_freesurfer_is_in_the_mirror(sub, tmp_path, monkeypatch):
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", str(tmp_path))
    assert not sub.has_freesurfer()
    with pytest.raises(DataNotDownloadedError, match="freesurfer"):
        sub.get_freesurfer_dir()
    (tmp_path / "derivatives/freesurfer" / SUB).mkdir(parents=True)
    assert sub.has_freesurfer()
    assert sub.get_freesurfer_dir() == tmp_path / "derivatives/freesurfer" / SUB
    assert not sub.has_anatomical()
