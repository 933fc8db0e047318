"""Downloads from a real S3 server: the right files, each fetched once; failures of all kinds."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import laion_zarr
from laion_zarr import _release, convert, load_subject
from laion_zarr import download as module
from laion_zarr.conversion.cli import main
from laion_zarr.download import (
    access_service,
    bucket,
    download,
    download_captions,
    download_embeddings,
    download_raw,
    download_segmentations,
    license,
)
from laion_zarr.download.fetch import DownloadError, fetch
from laion_zarr.download.mirror import RECORD, Item
from laion_zarr.errors import (
    DataDirNotSetError,
    DataNotDownloadedError,
    LaionZarrError,
    LicenseNotAcceptedError,
    SubjectNotFoundError,
)
from laion_zarr.store import remote
from laion_zarr.store.retry import Transient, Unreachable
from laion_zarr.store.schema import PARTS

GLM = "derivatives/glmsingle-tedana"
ANAT = "derivatives/anatomical/sub-01/ses-PrismaAnat/anat/sub-01_ses-PrismaAnat_space-T1w"
BETAS = (
    f"{GLM}/sub-01/ses-01/func/sub-01_ses-01_task-images_space-T1w_stat-effect"
    "_desc-SingletrialBetas_statmap.nii.gz"
)
TRIALS = f"{GLM}/sub-01/ses-01/func/sub-01_ses-01_task-images_desc-SingletrialBetas_trials.tsv"
MASK = f"{ANAT}_res-1pt8_desc-brain_mask"
R2MEAN = f"{GLM}/sub-01/sub-01_task-images_space-T1w_stat-rsquare_desc-R2mean_statmap"
TOP = {"README", "dataset_description.json", "participants.tsv"}


@pytest.fixture
def agreed():
    license.keep()


@pytest.fixture
def data(front, agreed):
    """The data directory of a user who accepted the licence."""
    return Path(os.environ["LAION_ZARR_DATA_DIR"])


def tree(root):
    """All files but the record: path -> content."""
    files = {p.relative_to(root).as_posix(): p for p in root.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != str(RECORD)}


def expected(bucket_root, *patterns):
    files = [p for p in bucket_root.rglob("*") if p.is_file()]
    names = {p.relative_to(bucket_root).as_posix(): p for p in files}
    return {n: p.read_bytes() for n, p in names.items() if any(pat in n for pat in patterns)} | {
        name: (bucket_root / name).read_bytes() for name in TOP
    }


def essentials(sub="01"):
    return (
        f"derivatives/rois/sub-{sub}/",
        MASK.replace("sub-01", f"sub-{sub}"),
        R2MEAN.replace("sub-01", f"sub-{sub}"),
    )


# -- what comes


def test_one_subject_whole(data, front, bucket_root):
    report = download("01", n_jobs=4)
    want = expected(bucket_root, f"{GLM}/sub-01/", *essentials())
    assert tree(data) == want
    assert sorted(report.fetched) == sorted(want)
    assert report.nbytes == sum(map(len, want.values()))
    assert len(front.listings()) == 4
    assert len(front.requests) == 4 + len(want)


def test_again_sends_only_listings(data, front):
    first = download("01", n_jobs=4)
    front.requests.clear()
    again = download("01")
    assert not again.fetched
    assert sorted(again.present) == sorted(first.fetched)
    assert len(front.requests) == len(front.listings()) == 4


def test_one_session_with_what_the_voxel_axis_needs(data, bucket_root):
    download("sub-01", ses="01")
    want = expected(bucket_root, f"{GLM}/sub-01/ses-01/", *essentials())
    # The voxel axis needs no masks of the other grid.
    assert tree(data) == {name: data for name, data in want.items() if "res-1pt5" not in name}


def test_averages(data, bucket_root):
    download("01", ses="averages")
    assert tree(data) == expected(bucket_root, f"{GLM}/sub-01/sub-01_", *essentials())


def test_averages_and_a_session(data, bucket_root):
    download("01", ses=["averages", "ses-02"])
    want = expected(bucket_root, f"{GLM}/sub-01/sub-01_", f"{GLM}/sub-01/ses-02", *essentials())
    assert tree(data) == want


def test_all_subjects(data, bucket_root):
    download("all", ses="01", desc="SingletrialBetas", extension=["nii.gz", ".tsv"], n_jobs=4)
    want = {
        name
        for name in expected(
            bucket_root, "desc-SingletrialBetas", *essentials("01"), *essentials("03")
        )
        if "ses-02" not in name
        and "res-1pt5" not in name
        and not ("SingletrialBetas" in name and name.endswith("json"))
    }
    assert set(tree(data)) == want


@pytest.mark.parametrize(
    ("filters", "there", "absent"),
    [
        ({"desc": "desc-R2"}, ["ses-01_task-images_space-T1w_stat-rsquare_desc-R2_"], ["Fracr"]),
        ({"stat": "effect"}, ["SingletrialBetas_statmap", "_trials.tsv"], ["desc-R2_"]),
        ({"suffix": ["trials", "dseg"]}, ["_trials.tsv", "HRFindex_dseg"], ["Fracridge"]),
        ({"space": "T1w", "task": "images"}, ["SingletrialBetas", "Fracridge"], []),
        ({"extension": "tsv"}, ["_trials.tsv"], ["_trials.json", "SingletrialBetas_statmap"]),
    ],
)
def test_filters(data, filters, there, absent):
    download("01", **filters)
    names = " ".join(tree(data))
    for word in (*there, MASK, R2MEAN, "label-EBA"):
        assert word in names
    for word in absent:
        assert word not in names


def test_include_anatomical_and_freesurfer(data, front):
    front.put("derivatives/freesurfer/sub-01/surf/lh.white", b"surface")
    download("01", ses="01", desc="SingletrialBetas", include_anatomical=True)
    names = set(tree(data))
    assert {f"{ANAT}_T1w.nii.gz", f"{ANAT}_desc-brain_mask.nii.gz"} <= names
    download("01", ses="01", include_freesurfer=True)
    assert (data / "derivatives/freesurfer/sub-01/surf/lh.white").read_bytes() == b"surface"


def test_include_localizers_also_of_a_session_that_is_held_out_elsewhere(data, front):
    folder = "derivatives/localizers/sub-01"
    for ses, task in (("ses-31", "oloc"), ("ses-4BarScreenfLoc", "floc")):
        name = f"sub-01_{ses}_task-{task}_space-T1w_res-1pt5_contrast-X_stat-z_statmap.nii.gz"
        front.put(f"{folder}/{ses}/func/{name}", task.encode())
    front.put(folder.replace("01", "03") + "/ses-31/func/x.nii.gz", b"of another subject")
    front.put(f"{GLM}/sub-01/ses-31/func/sub-01_ses-31_task-images_x.nii.gz", b"held out")
    download("01", ses="01")
    assert not [name for name in tree(data) if "localizers" in name]
    download("01", ses="01", include_localizers=True)
    came = {v for name, v in tree(data).items() if "localizers" in name}
    assert {b"oloc", b"floc"} < came
    assert b"of another subject" not in came
    assert not [name for name in tree(data) if "ses-31" in name and "localizers" not in name]
    command = ["download", "--subject", "01", "--ses", "01", "--include-localizers", "--quiet"]
    (data / folder / "ses-31/func").rename(data / "elsewhere")
    assert main(command) == 0
    assert list((data / folder / "ses-31/func").iterdir())


def test_include_what_the_bucket_lacks(data, front):
    with pytest.raises(DataNotDownloadedError, match="derivatives/freesurfer/sub-01 holds nothing"):
        download("01", include_freesurfer=True)
    assert not front.gets()


def test_held_out_sessions_are_never_requested(data, front):
    for ses in ("ses-31", "ses-34"):
        front.put(f"{GLM}/sub-01/{ses}/func/sub-01_{ses}_task-images_x.nii.gz", b"secret")
        front.put(f"derivatives/rois/sub-01/face/sub-01_{ses}_label-X_mask.nii.gz", b"secret")
    front.fault("ses-3[1-4]", status=403, times=99)
    download("01", n_jobs=4)
    assert not [name for name in tree(data) if "ses-3" in name]
    assert not [request for request in front.gets() if "ses-3" in request.path]


def test_a_filter_that_one_of_the_subjects_has_no_file_for(data, front):
    """Of subjects that were named, each must have what was asked for; of all, one must."""
    front.put(f"{GLM}/sub-01/ses-05/func/sub-01_ses-05_task-images_x.tsv", b"x")
    front.put("sub-01/ses-05/func/sub-01_ses-05_task-images_run-01_events.tsv", b"x")
    for fetched in (download, download_raw):
        with pytest.raises(ValueError, match="No file of sub-03 has ses='05'"):
            fetched(["01", "03"], ses="05")
        assert tree(data) == {}
    download("all", ses="05")
    assert any("ses-05" in name for name in tree(data))


def test_stimulus_side(data, bucket_root, front):
    laion_zarr.download_embeddings("CLIP")
    csv = "stimuli/task-images_metadata.csv"
    clip = "stimuli/task-images_desc-CLIP_embeddings.h5"
    assert set(tree(data)) == {csv, clip}
    laion_zarr.download_captions()
    laion_zarr.download_segmentations()
    laion_zarr.download_embeddings()
    want = expected(bucket_root, "stimuli/")
    assert tree(data) == {n: v for n, v in want.items() if n not in TOP and "_stimuli.h5" not in n}


# -- wrong questions


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"subject": "99"}, "Name one of: sub-01, sub-03"),
        ({"subject": "01", "ses": "07"}, "ses='07'. Name one or more of: 01, 02, averages"),
        ({"subject": "01", "ses": "31"}, "ses-31 is held out"),
        ({"subject": "01", "desc": ["R2", "typo"]}, "desc='typo'.*Fracridge"),
        ({"subject": "01", "ses": "averages", "suffix": "trials"}, "Pass fewer filters"),
        ({"subject": "01", "ses": True}, "ses: expected a string.*True"),
        ({"subject": "01", "ses": []}, "ses="),
        ({"subject": "01", "n_jobs": 0}, "n_jobs=0"),
        ({"subject": "01", "n_jobs": True}, "n_jobs=True"),
        ({"subject": []}, "no subject id"),
    ],
)
def test_wrong_arguments(data, front, arguments, said):
    with pytest.raises(ValueError, match=said):
        download(**arguments)
    assert not front.gets()


@pytest.mark.parametrize("subject", ["", "sub-", 0, 1.0, None, [], ["01", 0], ["01", True]])
def test_no_subject_id(data, front, subject):
    with pytest.raises(SubjectNotFoundError):
        download(subject)
    assert not front.requests


def test_unknown_model(data):
    with pytest.raises(ValueError, match="CLIP, DINOv2, PEcore, SigLIP2"):
        laion_zarr.download_embeddings(["CLIP", "clip"])


def test_no_data_directory(front, agreed, monkeypatch, tmp_path):
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(DataNotDownloadedError, match="mkdir"):
        download("01")
    monkeypatch.delenv("LAION_ZARR_DATA_DIR")
    with pytest.raises(DataDirNotSetError, match="laion-zarr config --data-dir"):
        download("01")
    assert not front.requests


# -- the licence


@pytest.mark.parametrize(
    "ask",
    [
        lambda: download("01"),
        laion_zarr.download_captions,
        laion_zarr.download_stimuli,
        laion_zarr.download_embeddings,
        laion_zarr.download_segmentations,
    ],
)
def test_nothing_is_asked_of_the_bucket_without_the_licence(front, ask):
    with pytest.raises(LicenseNotAcceptedError, match="--accept-license"):
        ask()
    assert not front.requests


def answering(monkeypatch, *answers):
    left = list(answers)
    for place in (license, access_service):
        monkeypatch.setattr(place, "can_ask", lambda: True)
    monkeypatch.setattr("builtins.input", lambda prompt: left.pop(0))
    return left


def test_licence_is_asked_for_once(front, monkeypatch, capsys):
    left = answering(monkeypatch, "I AGREE")
    laion_zarr.download_captions()
    laion_zarr.download_captions()
    assert not left
    assert capsys.readouterr().out.count("Creative Commons Zero") == 1


@pytest.mark.parametrize("answer", ["", "yes", "i agree"])
def test_licence_that_is_declined(front, monkeypatch, answer):
    answering(monkeypatch, answer)
    with pytest.raises(LicenseNotAcceptedError):
        module.accept_license()
    assert not license.is_accepted()


def test_licence_where_nobody_can_type(front, capsys):
    module.accept_license()
    assert "CC0" in capsys.readouterr().out
    laion_zarr.download_captions()


def test_licence_in_a_notebook_that_runs_unattended(monkeypatch):
    def refuse(prompt):
        raise NotImplementedError

    monkeypatch.setattr("builtins.input", refuse)
    assert license.ask("?") is None


# -- the command line


def test_commands(front, bucket_root, capsys):
    data = Path(os.environ["LAION_ZARR_DATA_DIR"])
    arguments = ["download", "--subject", "sub-01", "--ses", "01", "averages", "--n-jobs", "2"]
    assert main(arguments) == 1
    assert "--accept-license" in capsys.readouterr().err
    assert main([*arguments, "--accept-license", "--quiet"]) == 0
    first = capsys.readouterr()
    assert first.err == ""
    assert "files downloaded" in first.out
    assert "0 already in" in first.out
    assert main(arguments) == 0
    again = capsys.readouterr()
    assert "0 files downloaded (0 B)" in again.out
    want = expected(bucket_root, f"{GLM}/sub-01/ses-01", f"{GLM}/sub-01/sub-01_", *essentials())
    assert tree(data) == want
    assert main(["download-embeddings", "--models", "CLIP"]) == 0
    shown = capsys.readouterr()
    assert "2/2 files" in shown.err
    assert main(["download-segmentations", "--quiet"]) == 0
    assert main(["download-captions", "--quiet"]) == 0


def test_failure_is_one_line_and_exit_code(data, front, capsys):
    front.fault(f"GET .*{TRIALS}", status=403, times=99)
    assert main(["download", "--subject", "01", "--quiet"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"access is refused (HTTP 403): {TRIALS}" in error


# -- faults on the way


@pytest.mark.parametrize("status", [403, 404, 500, 429, 418])
def test_one_bad_object_does_not_stop_the_rest(data, front, bucket_root, status):
    front.fault(f"GET .*{TRIALS}", status=status, times=99)
    with pytest.raises(DownloadError) as caught:
        download("01", n_jobs=2)
    assert list(caught.value.failed) == [TRIALS]
    assert f"HTTP {status}" in str(caught.value)
    want = expected(bucket_root, f"{GLM}/sub-01/", *essentials())
    assert tree(data).keys() | {TRIALS} == set(want)
    front.faults.clear()
    assert download("01").fetched == (TRIALS,)
    assert tree(data) == want


def test_two_bad_objects_are_both_named(data, front):
    front.fault(f"GET .*{TRIALS}", status=403, times=9)
    front.fault(f"GET .*{MASK}.nii.gz", status=404, times=9)
    with pytest.raises(DownloadError) as caught:
        download("01", n_jobs=3)
    assert set(caught.value.failed) == {TRIALS, f"{MASK}.nii.gz"}
    assert "2 of " in str(caught.value)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_failures_for_a_moment(data, front, bucket_root, status):
    front.fault("GET .*ses-01", status=status, times=4)
    download("01", n_jobs=1)
    assert tree(data) == expected(bucket_root, f"{GLM}/sub-01/", *essentials())


def test_cut_off_body_is_continued_by_range(data, front, bucket_root):
    front.fault(f"GET .*{BETAS}", cut_after=10_000, times=2)
    download("01", ses="01")
    asked = [r.headers.get("Range") for r in front.gets() if BETAS in r.path]
    assert asked == [None, "bytes=10000-", "bytes=20000-"]
    assert (data / BETAS).read_bytes() == (bucket_root / BETAS).read_bytes()


def cut_off(front, after=10_000):
    """A download that ends with a part of the betas."""
    front.fault(f"GET .*{BETAS}", cut_after=after)
    front.fault(f"GET .*{BETAS}", status=500, times=99)
    with pytest.raises(DownloadError, match="HTTP 500"):
        download("01", ses="01")
    front.faults.clear()
    front.requests.clear()


def partials(data):
    return sorted(data.rglob(".*.part"))


def test_resume_of_another_run(data, front, bucket_root):
    cut_off(front)
    (partial,) = partials(data)
    assert partial.stat().st_size == 10_000
    assert not (data / BETAS).exists()
    report = download("01", ses="01")
    assert report.fetched == (BETAS,)
    size = (bucket_root / BETAS).stat().st_size
    assert report.nbytes == size - 10_000
    (request,) = front.gets()
    assert request.headers["Range"] == "bytes=10000-"
    assert (data / BETAS).read_bytes() == (bucket_root / BETAS).read_bytes()
    assert not partials(data)


def test_etag_that_changed_between_begins_anew(data, front, bucket_root):
    cut_off(front)
    new = (bucket_root / BETAS).read_bytes()[::-1]
    front.put(BETAS, new)
    download("01", ses="01")
    (request,) = front.gets()
    assert "Range" not in request.headers
    assert (data / BETAS).read_bytes() == new
    assert not partials(data)


def test_object_that_changes_after_the_listing(data, front, monkeypatch):
    found = bucket.Object(TRIALS, 5, "0" * 32)
    with pytest.raises(LaionZarrError, match="has changed since it was listed"):
        next(bucket.blocks(found, 0))


def test_range_that_is_not_answered(data, front):
    cut_off(front)
    front.fault(f"GET .*{BETAS}", ignore_range=True, times=9)
    with pytest.raises(DownloadError, match="does not answer the range"):
        download("01", ses="01")


def test_new_version_in_the_bucket_is_fetched(data, front, bucket_root):
    download("01", ses="01")
    front.put(TRIALS, (bucket_root / TRIALS).read_bytes()[::-1])  # of the same size
    assert download("01", ses="01").fetched == (TRIALS,)
    assert (data / TRIALS).read_bytes() == (bucket_root / TRIALS).read_bytes()[::-1]


def test_damage_on_the_way(data, front):
    front.fault(f"GET .*{BETAS}", flip=True)
    with pytest.raises(DownloadError, match="expected md5"):
        download("01", ses="01")
    assert not (data / BETAS).exists()
    assert not partials(data)
    assert download("01", ses="01").fetched == (BETAS,)


def test_damaged_partial_is_found_out(data, front, bucket_root):
    cut_off(front)
    (partial,) = partials(data)
    partial.write_bytes(b"x" * 10_000)
    with pytest.raises(DownloadError, match="expected md5"):
        download("01", ses="01")
    download("01", ses="01")
    assert (data / BETAS).read_bytes() == (bucket_root / BETAS).read_bytes()


def test_partial_that_is_too_long(data, front, bucket_root):
    cut_off(front)
    (partial,) = partials(data)
    partial.write_bytes(b"x" * 200_000)
    download("01", ses="01")
    assert (data / BETAS).read_bytes() == (bucket_root / BETAS).read_bytes()


def test_slow_object_is_tried_again(data, front, monkeypatch):
    monkeypatch.setattr(remote, "_TIMEOUT", 1)
    opened = {}
    monkeypatch.setattr(bucket, "_filesystems", opened)
    front.fault("GET .*captions.csv", delay=2)
    try:
        laion_zarr.download_captions()
    finally:
        (fs,) = opened.values()
        fs.close_session(fs.loop, fs.s3)
    assert len([request for request in front.gets() if "captions" in request.path]) == 2


def test_object_put_together_of_parts(data, front):
    key = f"{GLM}/sub-01/ses-01/func/sub-01_ses-01_task-images_desc-Big_statmap.nii.gz"
    content = os.urandom(6 << 20)
    front.put(key, content, multipart=True)
    assert "-2" in next(one.etag for one in bucket.objects(f"{GLM}/sub-01") if one.key == key)
    front.fault(f"GET .*{key}", cut_after=3 << 20)
    download("01", desc="Big")
    assert (data / key).read_bytes() == content
    assert download("01", desc="Big").fetched == ()


# -- what is there already


def test_mirror_of_another_tool_is_taken_over(data, front, bucket_root):
    for folder in ("derivatives", "stimuli"):
        shutil.copytree(bucket_root / folder, data / folder)
    (data / TRIALS).write_bytes((bucket_root / TRIALS).read_bytes()[::-1])
    report = download("01")
    assert set(report.fetched) == {TRIALS, *TOP}
    assert (data / TRIALS).read_bytes() == (bucket_root / TRIALS).read_bytes()


def test_file_cut_short_or_deleted_comes_again(data, front, bucket_root):
    download("01", ses="01")
    (data / TRIALS).write_bytes(b"short")
    (data / f"{MASK}.nii.gz").unlink()
    assert set(download("01", ses="01").fetched) == {TRIALS, f"{MASK}.nii.gz"}


def test_record_that_is_damaged(data, front):
    download("01", ses="01")
    record = data / RECORD
    record.write_bytes(record.read_bytes()[:-20] + b"\n{}\n[]\n\xff{nonsense")
    front.requests.clear()
    assert download("01", ses="01").fetched == ()
    assert len(front.requests) == 4


# -- the engine, with items made by hand


def make(key, content=b"content", fail=None, version=None, digest=True):
    def blocks(start):
        if fail is not None:
            raise fail
        yield content[start:]

    md5 = hashlib.md5(content).hexdigest()
    return Item(key, len(content), version or md5, ("md5", md5) if digest else None, blocks)


@pytest.mark.parametrize(
    "key",
    ["../out", "a/../../out", "/etc/out", "a//b", "a/./b", "..", "", "a/", "a\\b", "a\nb", "a\0b"],
)
def test_key_that_leads_out_is_refused(tmp_path, key):
    root = tmp_path / "in" / "data"
    root.mkdir(parents=True)
    with pytest.raises(DownloadError, match="refused"):
        fetch(root, [make(key), make("good")], progress=False)
    assert tree(root) == {"good": b"content"}
    assert set(tree(tmp_path)) == {"in/data/good", f"in/data/{RECORD}"}


def test_link_that_leads_out_is_refused(tmp_path):
    root, out = tmp_path / "data", tmp_path / "out"
    root.mkdir()
    out.mkdir()
    (root / "link").symlink_to(out)
    for key in ("link/file", "link/new/file"):
        with pytest.raises(DownloadError, match="symbolic link: refused"):
            fetch(root, [make(key)], progress=False)
    assert not list(out.iterdir())


def test_link_in_place_of_a_file_is_replaced(tmp_path):
    root, out = tmp_path / "data", tmp_path / "out"
    root.mkdir()
    out.write_bytes(b"mine")
    (root / "file").symlink_to(out)
    partial = root / f".file.{make('file').version}.part"
    fetch(root, [make("file")], progress=False)
    assert not (root / "file").is_symlink()
    partial.symlink_to(out)
    (root / "file").unlink()
    with pytest.raises(DownloadError):
        fetch(root, [make("file")], progress=False)
    assert out.read_bytes() == b"mine"


def test_data_directory_behind_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "real")
    fetch(tmp_path / "data", [make("a/b")], progress=False)
    assert (tmp_path / "real/a/b").read_bytes() == b"content"


def test_space_is_checked_first(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 90, 10))
    with pytest.raises(LaionZarrError, match=r"14 B are to be downloaded to .*, and 10 B are free"):
        fetch(tmp_path, [make("a"), make("b")], progress=False)
    assert not tree(tmp_path)
    fetch(tmp_path, [make("a")], progress=False)
    fetch(tmp_path, [make("a"), make("b")], progress=False)  # of which one is there


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), Unreachable("cannot be reached")]
)
def test_what_nothing_else_survives_stops_the_rest(tmp_path, front, error):
    items = [make("a", fail=error), *(make(f"b{n}") for n in range(200))]
    with pytest.raises(DownloadError, match="were not tried"):
        fetch(tmp_path, items, progress=False)
    assert len(tree(tmp_path)) < 200


def test_empty_file(tmp_path):
    fetch(tmp_path, [make("empty", b"", fail=AssertionError("asked"))], progress=False)
    assert (tmp_path / "empty").read_bytes() == b""


def test_more_bytes_than_there_should_be(tmp_path):
    item = make("a")
    longer = Item("a", 3, "v", None, item.blocks)
    with pytest.raises(DownloadError, match="more than the 3 bytes"):
        fetch(tmp_path, [longer], progress=False)
    assert not (tmp_path / "a").exists()


def test_folder_where_a_file_should_be(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError) as caught:
        fetch(tmp_path, [make("a"), make("file/c"), make("d")], progress=False)
    assert set(caught.value.failed) == {"a", "file/c"}
    assert (tmp_path / "d").exists()


def test_two_downloads_of_one_file(tmp_path):
    item = make("a")
    partial = tmp_path / f".a.{item.version}.part"
    with partial.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DownloadError, match="another download is at it"):
            fetch(tmp_path, [item], progress=False)
    fetch(tmp_path, [item], progress=False)
    assert tree(tmp_path) == {"a": b"content"}


def test_error_of_ours_is_not_hidden(tmp_path):
    with pytest.raises(ZeroDivisionError):
        fetch(tmp_path, [make("a", fail=ZeroDivisionError())], progress=False)


def test_transient_failure_that_lasts(tmp_path, front):
    with pytest.raises(DownloadError, match="for a while: a"):
        fetch(tmp_path, [make("a", fail=Transient("for a while"))], progress=False)


SLOW = """
import signal, sys, time
from pathlib import Path
from laion_zarr.download.fetch import fetch
from laion_zarr.download.mirror import Item

signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored in the background

def blocks(start):
    for n in range(start, 600):
        time.sleep(0.02)
        yield b"x"

items = [Item(name, 600, "v", None, blocks) for name in "abc"]
fetch(Path(sys.argv[1]), items, n_jobs=2, progress=False)
"""


def test_interrupt_while_files_are_handed_out(tmp_path, monkeypatch):
    """Threads end at their next block then, too: nobody waits for all that was handed out."""
    submit = ThreadPoolExecutor.submit

    def interrupted(pool, work, item):
        if item.key == "b":
            time.sleep(0.1)  # the first one is under way
            raise KeyboardInterrupt
        return submit(pool, work, item)

    def blocks(start):
        for _ in range(start, 600):
            time.sleep(0.02)
            yield b"x"

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path, [Item(name, 600, "v", None, blocks) for name in "ab"], progress=False)
    assert partials(tmp_path)
    assert not tree(tmp_path).keys() & set("ab")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_download_that_is_interrupted_is_gone_on_with(tmp_path, number):
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, str(tmp_path)], stderr=subprocess.DEVNULL
    ) as process:
        while not any(path.stat().st_size for path in partials(tmp_path)):
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(10) != 0
    assert partials(tmp_path)
    assert not tree(tmp_path).keys() & set("abc")
    starts = []

    def blocks(start):
        starts.append(start)
        yield b"x" * (600 - start)

    fetch(tmp_path, [Item(name, 600, "v", None, blocks) for name in "abc"], progress=False)
    assert tree(tmp_path) == dict.fromkeys("abc", b"x" * 600)
    assert max(starts) > 0


# -- names


@pytest.mark.parametrize(
    ("key", "entities", "suffix", "extension"),
    [
        (
            BETAS,
            {"sub": "01", "ses": "01", "task": "images", "space": "T1w", "stat": "effect"}
            | {"desc": "SingletrialBetas"},
            "statmap",
            "nii.gz",
        ),
        ("derivatives/freesurfer/sub-01/surf/lh.white", {"sub": "01"}, "lh", "white"),
        ("README", {}, "README", ""),
        (
            "stimuli/task-images_desc-captions.csv",
            {"task": "images", "desc": "captions"},
            "",
            "csv",
        ),
    ],
)
def test_keys_are_taken_apart(key, entities, suffix, extension):
    assert _release.parse_key(key) == _release.KeyName(entities, suffix, extension)


@pytest.mark.parametrize(
    ("key", "published"),
    [
        ("a/sub-01/ses-30/x", True),
        ("a/ses-PrismaAnat/anat/x", True),
        ("a/ses-31/func/x", False),
        ("a/sub-01_ses-34_x.nii.gz", False),
        ("a/ses-31.json", False),
        ("a/ses-100/x", False),
        ("a/ses-01/sub-01_ses-33_x", False),
        ("derivatives/localizers/sub-01/ses-31/func/sub-01_ses-31_task-oloc_x", True),
        ("derivatives/tedana/sub-01/ses-31/func/sub-01_ses-31_task-images_x", False),
    ],
)
def test_held_out_keys(key, published):
    assert _release.is_published(key) == published


# -- downloaded, and straight from the bucket


def test_downloads_and_the_bucket_give_the_same_store(front, data, tmp_path, monkeypatch):
    download(
        "01",
        include_anatomical=True,
        include_bold=True,
        include_localizers=True,
        include_raw=True,
    )
    for fetch_more in (download_embeddings, download_segmentations, download_captions):
        fetch_more()
    # Pictures are behind the access service, and the bucket has no recon.
    parts = [part for part in PARTS if part not in ("images", "geometry")]
    here, there = tmp_path / "here.zarr", tmp_path / "there.zarr"
    convert(data, here, "01", parts=parts, n_workers=1, progress=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{front.moto}")
    convert("s3://laion-fmri", there, "01", parts=parts, n_workers=1, progress=False)
    assert tree(here) == tree(there)
    sub = load_subject("01", there)
    assert sub.get_betas(roi="face").shape[0] == len(sub.embeddings.all("CLIP"))
    assert sub.get_bold(1).sizes["time"]
