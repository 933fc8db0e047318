"""Downloads of raw data and of preprocessed time series: which files come, and for whom."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from laion_zarr import discovery
from laion_zarr.conversion.cli import main
from laion_zarr.download import bucket, download, download_raw, license
from laion_zarr.errors import DataNotDownloadedError, SubjectNotFoundError

TOP = {"README", "dataset_description.json", "participants.tsv"}
FUNC = "sub-01/ses-01/func/sub-01_ses-01_task-images"
BOLD = "derivatives/tedana/sub-01/ses-01/func/"


@pytest.fixture
def data(front):
    license.keep()
    return Path(os.environ["LAION_ZARR_DATA_DIR"])


@pytest.fixture
def more(front):
    """In the bucket besides: events, field maps, another session, held-out ones, other subjects."""
    for key in (
        f"{FUNC}_run-01_events.tsv",
        f"{FUNC}_run-02_events.tsv",
        f"{FUNC}_run-02_echo-1_part-mag_bold.nii.gz",
        "sub-01/ses-01/fmap/sub-01_ses-01_run-01_phasediff.nii.gz",
        "sub-01/ses-02/func/sub-01_ses-02_task-images_run-01_events.tsv",
        "sub-01/ses-31/func/sub-01_ses-31_task-images_run-01_events.tsv",
        "derivatives/tedana/sub-01/ses-02/func/sub-01_ses-02_x_bold.nii.gz",
        "derivatives/tedana/sub-01/ses-32/func/sub-01_ses-32_x_bold.nii.gz",
        "sub-05/ses-01/func/sub-05_ses-01_task-images_run-01_events.tsv",
        "derivatives/localizers/sub-06/ses-4Bar/func/sub-06_ses-4Bar_task-floc_x.nii.gz",
    ):
        front.put(key, key.encode())
    front.fault("^(?!.*derivatives/localizers).*ses-3[1-4]", status=403, times=99)
    bucket.clear()


def names(data):
    """All files that came, without those of the whole dataset."""
    found = {p.relative_to(data).as_posix() for p in data.rglob("*") if p.is_file()}
    return {name for name in found - TOP if not name.startswith(".")}


def raw(bucket_root, *patterns):
    found = {p.relative_to(bucket_root).as_posix() for p in bucket_root.glob("sub-01/**/*.*")}
    return {name for name in found if all(pattern in name for pattern in patterns)}


def test_raw_alone(data, more, bucket_root):
    report = download_raw("01", ses="01", n_jobs=4)
    found = names(data)
    assert raw(bucket_root, "ses-01") < found
    assert f"{FUNC}_run-02_events.tsv" in found
    assert not [name for name in found if "derivatives" in name or "ses-02" in name]
    assert set(report.fetched) == found | TOP


@pytest.mark.parametrize(
    ("filters", "there", "absent"),
    [
        ({"suffix": "events"}, ["run-01_events", "run-02_events", "ses-02"], ["bold", "fmap"]),
        ({"run": 2}, ["run-02_events", "run-02_echo-1"], ["run-01"]),
        ({"run": "02", "suffix": "events"}, ["run-02_events"], ["run-01", "bold"]),
        ({"echo": 2}, ["echo-2_part-mag", "echo-2_sbref", "events"], ["echo-1", "echo-3"]),
        ({"echo": ["echo-1", "2"], "part": "phase"}, ["echo-1_part-phase"], ["part-mag", "echo-3"]),
        ({"extension": "tsv"}, ["events.tsv"], [".nii", ".json"]),
        ({"ses": 2}, ["ses-02_task-images_run-01_events"], ["ses-01"]),
        ({"task": "images", "suffix": ["sbref"]}, ["echo-3_sbref"], ["events", "_bold"]),
    ],
)
def test_filters(data, more, filters, there, absent):
    download_raw("sub-01", **filters, n_jobs=4)
    found = " ".join(names(data))
    assert all(word in found for word in there)
    assert not [word for word in absent if word in found]
    assert "ses-31" not in found


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"subject": "01", "ses": "31"}, ValueError, "ses-31 is held out"),
        ({"subject": "01", "run": 9}, ValueError, "run='09'.*01, 02"),
        ({"subject": "01", "part": "real"}, ValueError, "part='real'.*mag, phase"),
        ({"subject": "01", "ses": 2, "echo": 1, "suffix": "sbref"}, ValueError, "fewer filters"),
        ({"subject": "06"}, DataNotDownloadedError, "no raw data of sub-06"),
        ({"subject": "99"}, ValueError, "sub-01, sub-03, sub-05, sub-06"),
        ({"subject": ""}, SubjectNotFoundError, "no subject id"),
        ({"subject": "01", "n_jobs": 0}, ValueError, "n_jobs=0"),
    ],
)
def test_wrong_arguments(data, front, more, arguments, error, said):
    with pytest.raises(error, match=said):
        download_raw(**arguments)
    assert not front.gets()


def test_subjects_of_whom_only_these_are_there(data, more):
    assert discovery.get_subjects() == ["sub-01", "sub-03", "sub-05", "sub-06"]
    download_raw("all", suffix="events", n_jobs=4)
    assert any("sub-05" in name for name in names(data))
    download("sub-06", include_localizers=True)
    assert any("localizers/sub-06" in name for name in names(data))
    with pytest.raises(ValueError, match=r"no betas or ROIs of sub-05.*--include-raw"):
        download("05")
    download("05", ses="01", include_raw=True)
    with pytest.raises(DataNotDownloadedError, match="sub-06 holds nothing"):
        download("06", include_raw=True)


def test_all_subjects_with_what_some_have(data, more):
    """Nobody is left out because another one lacks a kind of data."""
    download("all", ses="01", desc="R2", include_raw=True, include_localizers=True, n_jobs=8)
    found = " ".join(names(data))
    for word in ("glmsingle-tedana/sub-03", "sub-05/ses-01", "localizers/sub-06", f"{FUNC}_run-01"):
        assert word in found
    with pytest.raises(DataNotDownloadedError, match="freesurfer"):
        download("all", include_freesurfer=True)


def test_included_by_session(data, front, more, bucket_root):
    """`ses` alone selects among time series: other filters are about betas."""
    download("01", ses="01", desc="SingletrialBetas", include_raw=True, include_bold=True, n_jobs=8)
    found = names(data)
    time_series = {name for name in found if name.startswith("derivatives/tedana")}
    on_disk = {p.relative_to(bucket_root).as_posix() for p in (bucket_root / BOLD).iterdir()}
    assert time_series == on_disk
    assert len(on_disk) == 4
    assert raw(bucket_root, "ses-01") < found
    assert not [name for name in found if "ses-02" in name or "ses-3" in name]
    assert not [request for request in front.gets() if "ses-3" in request.path]
    assert not [name for name in found if "desc-R2_" in name]


def test_commands(data, more, capsys):
    select = ["--ses", "01", "--run", "1", "--echo", "2", "--part", "mag", "--suffix", "bold"]
    assert main(["download-raw", "--subject", "01", *select, "--quiet"]) == 0
    assert names(data) == {
        f"{FUNC}_run-01_echo-2_part-mag_bold.{extension}" for extension in ("nii.gz", "json")
    }
    command = ["download", "--subject", "01", "--ses", "02", "--desc", "R2", "--quiet"]
    assert main([*command, "--include-bold", "--include-raw"]) == 0
    found = names(data)
    assert "derivatives/tedana/sub-01/ses-02/func/sub-01_ses-02_x_bold.nii.gz" in found
    assert "sub-01/ses-02/func/sub-01_ses-02_task-images_run-01_events.tsv" in found
