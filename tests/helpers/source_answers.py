"""Fixtures: what the files of `bids_root` hold, a larger store, a store that counts reads.

A test file imports fixtures as ``name as name``, which tells the linter that they are used.
"""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from counting_store import CountingStore

from laion_zarr import convert
from laion_zarr.conversion.synthetic import Size, write_dataset

SUB = "sub-01"
GLM = f"derivatives/glmsingle-tedana/{SUB}"
ANAT = f"derivatives/anatomical/{SUB}/ses-PrismaAnat/anat/{SUB}_ses-PrismaAnat_space-T1w"
SESSIONS = ["ses-01", "ses-02"]
CHUNK, SLAB, CHUNKS_PER_SHARD = 128, 17_280, 135  # as docs/store.md has them


@pytest.fixture
def counting(store):
    return CountingStore(store)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A store of one subject whose ~38,000 voxels fill two slabs and a bit."""
    folder = tmp_path_factory.mktemp("large")
    size = Size((44, 53, 42), 4.5, (6, 7), 2, (17, 21, 19), 10.5, (4, 5))
    root = write_dataset(folder / "mirror", size, [SUB])
    convert(root, folder / "laion-fmri.zarr", progress=False)
    return folder / "laion-fmri.zarr"


# -- what the files say


def flat(path):
    """A 3-D map in C order of the grid."""
    return np.ascontiguousarray(np.asarray(nib.load(path).dataobj)).ravel()


def betas_of(root, session):
    """(trial, grid), from the source."""
    stem = f"{SUB}_{session}_task-images_space-T1w_stat-effect_desc-SingletrialBetas_statmap"
    volumes = np.asarray(nib.load(root / GLM / session / "func" / f"{stem}.nii.gz").dataobj)
    return np.moveaxis(volumes, -1, 0).reshape(volumes.shape[-1], -1)


@pytest.fixture(scope="module")
def masks(bids_root):
    r2mean = f"{SUB}_task-images_space-T1w_stat-rsquare_desc-R2mean_statmap.nii.gz"
    return {
        "anatomical": flat(bids_root / f"{ANAT}_res-1pt8_desc-brain_mask.nii.gz") != 0,
        "rsquare": flat(bids_root / GLM / r2mean) != 0,
    }


@pytest.fixture(scope="module")
def rois(bids_root):
    """Category and mask by name."""
    found = {}
    for path in sorted(bids_root.glob(f"derivatives/rois/{SUB}/*/*_res-1pt8_label-*.nii.gz")):
        name = path.name.split("label-")[1].split("_")[0]
        found[name] = (path.parent.name, flat(path) != 0)
    return dict(sorted(found.items()))


@pytest.fixture(scope="module")
def source(bids_root):
    """All betas, (trial, grid)."""
    return np.concatenate([betas_of(bids_root, session) for session in SESSIONS])


@pytest.fixture(scope="module")
def labels(bids_root):
    """Stimulus of each trial of both sessions."""
    found = []
    for session in SESSIONS:
        name = f"{SUB}_{session}_task-images_desc-SingletrialBetas_trials.tsv"
        table = pd.read_csv(bids_root / GLM / session / "func" / name, sep="\t")
        found += table.sort_values("beta_index")["label"].tolist()
    return found
