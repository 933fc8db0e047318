"""The sample's localizer maps and ROI masks at res-1pt5: every expected answer.

The sample is not part of the project; where it is absent these tests are skipped.
"""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from places import EXPECTED, SAMPLE

from laion_zarr import convert, load_subject, verify

pytestmark = pytest.mark.skipif(not EXPECTED.is_dir(), reason="the sample dataset is not here")

SUBJECTS = ("sub-01", "sub-03")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("sample") / "store.zarr"
    convert(SAMPLE / "data", path, parts=["localizers", "rois_1pt5"], progress=False)
    return path


@pytest.fixture(scope="module", params=SUBJECTS)
def sub(store, request):
    return load_subject(request.param, store)


def expected(sub) -> dict:
    return json.loads((EXPECTED / "extras.json").read_text())[sub.subject_id]


def test_every_map(sub):
    answers = np.load(EXPECTED / f"localizers_{sub.subject_id}.npz")
    for name in answers.files:
        task, contrast, stat, run, *hemi = name.split(":")
        how = {"stat": stat, "run": int(run) or None}
        if hemi:
            found = sub.get_localizer_surface(task, contrast, hemi[0][-1], **how)
        else:
            found = sub.get_localizer(task, contrast, **how)
        assert found.dtype == np.float32
        assert found.values.tobytes() == answers[name].tobytes(), name
    assert len(answers.files) > 50


def test_list_of_maps(sub):
    table = sub.get_available_localizers()
    where = table["res"].where(table["res"] != "", table["hemi"])
    columns = [table[name] for name in ("task", "session", "contrast", "stat", "run")]
    found = [list(row) for row in zip(*columns, where, strict=True)]
    assert sorted(found) == sorted(
        [*row[:4], row[4] or 0, row[5]] for row in expected(sub)["localizers"]
    )


def test_volumes_on_their_own_grid(sub):
    folder = SAMPLE / "data/derivatives/localizers" / sub.subject_id
    files = sorted(folder.rglob("*_res-1pt5_*.nii.gz"))
    for file in files:
        entities = dict(word.split("-", 1) for word in file.name.split("_")[:-1])
        found = sub.get_localizer_volume(
            entities["task"],
            entities["contrast"],
            stat=entities["stat"],
            run=entities.get("run"),
        )
        image = nib.load(file)
        np.testing.assert_array_equal(found.values, np.asarray(image.dataobj))
        np.testing.assert_array_equal(np.reshape(found.attrs["affine"], (4, 4)), image.affine)
    assert len(files) == len(
        {tuple(row) for row in expected(sub)["localizers"] if row[5] == "1pt5"}
    )


def test_roi_masks_on_that_grid(sub):
    answers = expected(sub)["rois_1pt5"]
    for roi, n_voxels in answers.items():
        (file,) = SAMPLE.glob(f"data/derivatives/rois/{sub.subject_id}/*/*1pt5_label-{roi}_*.gz")
        found = sub.get_roi_volume(roi, res="1pt5")
        assert int(found.sum()) == n_voxels
        np.testing.assert_array_equal(found.values, np.asarray(nib.load(file).dataobj) != 0)


def test_verify_reads_the_source_again(store):
    assert verify(store, SAMPLE / "data", deep=True, progress=False).n_values > 10**6
