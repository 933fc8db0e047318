"""Paths of localizer maps in a mirror: the release's names, and errors that say what is there."""

from __future__ import annotations

import re

import nibabel as nib
import pytest
from places import SAMPLE

from laion_zarr import config
from laion_zarr.derivatives import (
    LOCALIZER_TASKS,
    VOLUME_RESOLUTIONS,
    localizer_effect_path,
    localizer_statmap_path,
)
from laion_zarr.errors import DataNotDownloadedError

FLOC = "derivatives/localizers/sub-03/ses-4BarScreenfLoc/func/sub-03_ses-4BarScreenfLoc_task-floc"
OLOC = "derivatives/localizers/sub-03/ses-31/func/sub-03_ses-31_task-oloc"
NAMES = {
    "surface": f"{FLOC}_hemi-L_space-fsnative_contrast-faceVsOthers_stat-z_statmap.func.gii",
    "volume": f"{FLOC}_space-T1w_res-1pt5_contrast-faceVsOthers_stat-z_statmap.nii.gz",
    "betas' grid": f"{FLOC}_space-T1w_res-1pt8_contrast-faceVsOthers_stat-z_statmap.nii.gz",
    "effect": f"{FLOC}_run-02_hemi-R_space-fsnative_contrast-face_stat-effect_statmap.func.gii",
    "effect, volume": f"{FLOC}_run-11_space-T1w_res-1pt8_contrast-face_stat-effect_statmap.nii.gz",
    "objects": f"{OLOC}_hemi-R_space-fsnative_contrast-objectVsScrambled_stat-z_statmap.func.gii",
}


@pytest.fixture
def mirror(tmp_path):
    for name in NAMES.values():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


FACE = ("sub-03", "floc", "faceVsOthers", "4BarScreenfLoc")
EFFECT = ("03", "floc", "face", "ses-4BarScreenfLoc")


@pytest.mark.parametrize(
    ("name", "function", "given", "options"),
    [
        ("surface", localizer_statmap_path, FACE, {"hemi": "L"}),
        ("volume", localizer_statmap_path, FACE, {"space": "T1w"}),
        ("betas' grid", localizer_statmap_path, FACE, {"space": "T1w", "res": "1pt8"}),
        ("effect", localizer_effect_path, EFFECT, {"run": 2, "hemi": "R"}),
        ("effect, volume", localizer_effect_path, (*EFFECT, "11"), {"space": "T1w", "res": "1pt8"}),
        (
            "objects",
            localizer_statmap_path,
            ("03", "oloc", "objectVsScrambled", "31"),
            {"hemi": "R"},
        ),
    ],
)
def test_paths(mirror, monkeypatch, name, function, given, options):
    assert function(*given, **options, data_dir=mirror) == mirror / NAMES[name]
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", str(mirror))
    assert function(*given, **options) == config.get_data_dir() / NAMES[name]


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (("04", *FACE[1:]), {"hemi": "L"}, "download --subject sub-04 --include-localizers"),
        ((*FACE[:3], "01"), {"hemi": "L"}, "no ses '01'; there is: 31, 4BarScreenfLoc."),
        (("03", "oloc", *FACE[2:]), {"hemi": "L"}, "no task 'oloc'; there is: floc."),
        (("03", "floc", "face", FACE[3]), {"hemi": "L"}, "no contrast 'face'; .*: faceVsOthers."),
        (FACE, {"hemi": "R"}, "no hemi 'R'; there is: L."),
    ],
)
def test_a_map_that_is_not_there(mirror, given, options, message):
    with pytest.raises(DataNotDownloadedError, match=message) as caught:
        localizer_statmap_path(*given, **options, data_dir=mirror)
    assert isinstance(caught.value, FileNotFoundError)
    assert str(mirror / "derivatives/localizers") in str(caught.value)


@pytest.mark.parametrize(
    ("condition", "options", "message"),
    [
        ("face", {"run": 1, "hemi": "R"}, "no run '01'; there is: 02, 11."),
        ("body", {"run": 2, "hemi": "R"}, "no contrast 'body'; there is: face."),
        ("face", {"run": 2, "space": "T1w"}, "no space 'T1w'; there is: fsnative."),
    ],
)
def test_an_effect_that_is_not_there(mirror, condition, options, message):
    with pytest.raises(DataNotDownloadedError, match=message):
        localizer_effect_path("03", "floc", condition, "4BarScreenfLoc", **options, data_dir=mirror)


def test_a_task_without_runs(mirror):
    with pytest.raises(DataNotDownloadedError, match="no stat 'effect'; there is: z"):
        localizer_effect_path("03", "oloc", "object", "31", 1, hemi="L", data_dir=mirror)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "hemi=None: expected 'L' or 'R' for space='fsnative'"),
        ({"hemi": "lh"}, "hemi='lh': expected 'L' or 'R'"),
        ({"space": "MNI"}, "space='MNI': expected 'fsnative' or 'T1w'"),
        ({"space": "T1w", "res": "2"}, "res='2': expected '1pt5' or '1pt8'"),
        ({"hemi": "L", "run": 0}, "run=0: expected the number of a run"),
        ({"hemi": "L", "run": "one"}, "run='one'"),
    ],
)
def test_values_that_cannot_be(mirror, options, message):
    with pytest.raises(ValueError, match=message):
        localizer_effect_path(*EFFECT, **({"run": 2} | options), data_dir=mirror)


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the sample")
def test_every_map_of_the_sample_has_a_path():
    """All files of the sample, and no other, are the paths of their entities."""
    root = SAMPLE / "data"
    files = {
        p for p in (root / "derivatives/localizers").rglob("*_statmap.*") if p.suffix != ".json"
    }
    assert files
    found = set()
    for file in files:
        pairs = re.findall(r"(?:^|_)([a-z]+)-([A-Za-z0-9]+)", file.name)
        entities = dict(pairs)
        run = (int(entities["run"]),) if "run" in entities else ()
        ids = (entities["sub"], entities["task"], entities["contrast"], entities["ses"], *run)
        function = localizer_effect_path if run else localizer_statmap_path
        options = {key: entities[key] for key in ("space", "hemi", "res") if key in entities}
        found.add(function(*ids, **options, data_dir=root))
        assert entities["task"] in LOCALIZER_TASKS
        assert entities.get("res", "1pt5") in VOLUME_RESOLUTIONS
    assert found == files


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the sample")
def test_maps_of_the_sample_are_what_they_are_called():
    root = SAMPLE / "data"
    shapes = {
        res: nib.load(localizer_statmap_path(*FACE, space="T1w", res=res, data_dir=root)).shape
        for res in VOLUME_RESOLUTIONS
    }
    betas = next((root / "derivatives/glmsingle-tedana/sub-03").rglob("*Betas_statmap.nii*"))
    assert shapes["1pt8"] == nib.load(betas).shape[:3] != shapes["1pt5"]
    sizes = {
        hemi: nib.load(localizer_statmap_path(*FACE, hemi=hemi, data_dir=root)).agg_data().size
        for hemi in "LR"
    }
    assert all(sizes.values())
