"""Fixtures: masks, affine and FreeSurfer recon of the first subject of `bids_root`; an old store.

A test file imports fixtures as ``name as name``, which tells the linter that they are used.
"""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from converting import quiet

SUB = "sub-01"
HEMIS = {"L": ("lh", "left"), "R": ("rh", "right")}


@pytest.fixture(autouse=True)
def _mirror(bids_root, monkeypatch):
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", str(bids_root))


@pytest.fixture(scope="module")
def image(bids_root):
    """A mask's image of the mirror."""
    anatomy = f"derivatives/anatomical/{SUB}/ses-PrismaAnat/anat/{SUB}_ses-PrismaAnat_space-T1w"
    r2mean = f"{SUB}_task-images_space-T1w_stat-rsquare_desc-R2mean_statmap.nii.gz"
    files = {
        "anatomical": f"{anatomy}_res-1pt8_desc-brain_mask.nii.gz",
        "rsquare": f"derivatives/glmsingle-tedana/{SUB}/{r2mean}",
    }
    return {mask: nib.load(bids_root / file) for mask, file in files.items()}


@pytest.fixture(scope="session")
def old_store(bids_root, tmp_path_factory):
    """A store of the first subject from before stores held the geometry."""
    path = tmp_path_factory.mktemp("old") / "laion-fmri.zarr"
    quiet(bids_root, path, subjects=SUB, parts=["betas", "anatomy", "surfaces"])
    return path


@pytest.fixture(scope="module")
def masks(image):
    return {name: np.asarray(its.dataobj) != 0 for name, its in image.items()}


@pytest.fixture(scope="module")
def affine(image):
    return image["anatomical"].affine


def noise(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)
