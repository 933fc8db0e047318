"""Subjects and their arrays are pickled small, and used in other processes."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from source_answers import SUB, betas_of
from source_answers import large as large
from source_answers import masks as masks
from source_answers import rois as rois

from laion_zarr import load_subject

LOAD_AND_SAVE = """
import pickle, sys
import numpy as np
from pathlib import Path
found = pickle.loads(Path(sys.argv[1]).read_bytes())
if hasattr(found, "get_betas"):
    found = found.get_betas(session="ses-02", roi="face")
np.save(sys.argv[2], found.values)
"""


def in_another_process(thing, folder):
    """The values of a pickled array, computed elsewhere."""
    (folder / "pickle").write_bytes(pickle.dumps(thing))
    command = [sys.executable, "-W", "error", "-c", LOAD_AND_SAVE, "pickle", "values.npy"]
    subprocess.run(command, cwd=folder, check=True)
    return np.load(folder / "values.npy")


@pytest.fixture(scope="module")
def face_betas(bids_root, masks, rois):
    faces = np.logical_or.reduce([mask for its, mask in rois.values() if its == "face"])
    return betas_of(bids_root, "ses-02")[:, faces & masks["anatomical"]]


@pytest.mark.parametrize(
    "make",
    [
        lambda sub: sub,
        lambda sub: sub.get_betas(session="ses-02", roi="face"),
        lambda sub: sub.get_betas(session="ses-02", roi="face", chunks={"voxel": 2}),
    ],
    ids=["subject", "betas", "many blocks"],
)
def test_pickles_work_elsewhere(store, tmp_path, face_betas, make):
    thing = make(load_subject(SUB, store))
    np.testing.assert_array_equal(in_another_process(thing, tmp_path), face_betas)


def test_pickles_are_copies_of_what_they_were(sub):
    copy = pickle.loads(pickle.dumps(sub))
    assert repr(copy) == repr(sub)
    xr.testing.assert_identical(copy.dataset.compute(), sub.dataset.compute())
    dataset = pickle.loads(pickle.dumps(sub.sel(roi="face")))
    xr.testing.assert_identical(dataset.load(), sub.sel(roi="face").load())


@pytest.mark.parametrize("used", [False, True])
def test_pickles_are_small(large, used):
    sub = load_subject(SUB, large)
    betas = sub.get_betas(roi="FFA1")
    if used:  # what was read for one answer does not travel with the next
        sub.dataset["r2"].load()
        sub.get_betas(roi="laiongeneral").compute()
        betas.compute()
    assert len(pickle.dumps(betas)) < 300_000
    assert len(pickle.dumps(sub.get_betas(roi="FFA1", chunks={"voxel": 10}))) < 300_000
    assert len(pickle.dumps(load_subject(SUB, large))) < 10_000
