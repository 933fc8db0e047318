"""Listings of the bucket, from a real S3 server: answers, number of requests, readable errors."""

from __future__ import annotations

import re

import pytest
import s3_server

import laion_zarr
from laion_zarr import discovery
from laion_zarr.conversion.cli import main
from laion_zarr.download import bucket
from laion_zarr.errors import LaionZarrError, SubjectNotFoundError
from laion_zarr.store import remote

FACE = ["FFA1", "FFA2", "OFA", "pSTSfaces"]


def rois_on_disk(root, sub):
    found = (root / "derivatives/rois" / sub).rglob("*_mask.nii.gz")
    return sorted({re.search(r"label-(\w+)_mask", path.name)[1] for path in found})


def test_subjects_and_rois(front, bucket_root):
    assert discovery.get_subjects() == ["sub-01", "sub-03"]
    assert discovery.get_rois() == rois_on_disk(bucket_root, "sub-01")
    assert discovery.get_rois("03") == rois_on_disk(bucket_root, "sub-03")
    assert discovery.get_rois("sub-01", category="face") == FACE


def test_listings_are_asked_for_once(front):
    for _ in range(3):
        discovery.get_subjects()
        discovery.get_rois()
        discovery.get_rois("sub-01", "face")
    # Five places where a subject may have files, and the ROIs of the first subject.
    assert len(front.listings()) == len(front.requests) == 6
    bucket.clear()
    discovery.get_subjects()
    assert len(front.requests) == 11


def test_no_credentials_are_read_or_sent(front, monkeypatch, tmp_path):
    (tmp_path / "aws").write_text("[default]\naws_access_key_id = AKIAFILE\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    discovery.get_rois()
    sent = str([request.headers for request in front.requests])
    assert "Authorization" not in sent
    assert "AKIA" not in sent


def test_describe(front, bucket_root, capsys):
    laion_zarr.describe()
    assert capsys.readouterr().out.splitlines() == [
        "LAION-fMRI Dataset",
        "  Bucket:    s3://laion-fmri",
        "  Subjects:  2 (sub-01, sub-03)",
        f"  ROIs:      {', '.join(rois_on_disk(bucket_root, 'sub-01'))}",
    ]


def test_inspect_bucket(front, capsys):
    discovery.inspect_bucket()
    assert capsys.readouterr().out.splitlines() == [
        "Bucket: s3://laion-fmri",
        "Top-level prefixes (4):",
        "  derivatives/",
        "  stimuli/",
        "  sub-01/",
        "  sub-03/",
        "derivatives/glmsingle-tedana/: 2 entries, 2 sub-* entries",
        "derivatives/rois/: 2 entries, 2 sub-* entries",
    ]
    assert len(front.requests) == 3


def test_commands(front, capsys):
    assert main(["subjects"]) == 0
    assert capsys.readouterr().out == "sub-01\nsub-03\n"
    assert main(["rois", "--subject", "01", "--category", "face"]) == 0
    assert capsys.readouterr().out.split() == FACE


def test_listings_of_many_pages(front, monkeypatch):
    names = [f"derivatives/glmsingle-tedana/sub-05/ses-01/func/x{n:04}_y.json" for n in range(12)]
    for name in names:
        front.put(name, b"{}")
    call = bucket._call

    def few(method, **arguments):
        return call(method, MaxKeys=5, **arguments)

    monkeypatch.setattr(bucket, "_call", few)
    found = bucket.objects("derivatives/glmsingle-tedana/sub-05")
    assert [one.key for one in found] == names
    assert len(front.listings()) == 3
    assert discovery.get_subjects() == ["sub-01", "sub-03", "sub-05"]


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: discovery.get_rois("sub-99"), "Name one of: sub-01, sub-03"),
        (lambda: discovery.get_rois("01", "faces"), "body, face"),
    ],
)
def test_wrong_questions(front, ask, said):
    with pytest.raises(ValueError, match=said):
        ask()


@pytest.mark.parametrize("subject", ["", "sub-", 0])
def test_no_subject_id(front, subject):
    with pytest.raises(SubjectNotFoundError):
        discovery.get_rois(subject)
    assert not front.requests


def close(fs):
    fs.close_session(fs.loop, fs.s3)


@pytest.fixture
def elsewhere(front, monkeypatch):
    """Sends the next questions to another server."""
    opened = {}
    monkeypatch.setattr(bucket, "_filesystems", opened)
    yield lambda url: monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    for fs in opened.values():
        if fs._s3 is not None:
            close(fs)


def test_unreachable_bucket(elsewhere, capsys):
    url = f"http://127.0.0.1:{s3_server.free_port()}"
    elsewhere(url)
    with pytest.raises(LaionZarrError) as caught:
        discovery.get_subjects()
    for word in ("s3://laion-fmri", "cannot be reached", "AWS_ENDPOINT_URL", url):
        assert word in str(caught.value)
    assert main(["subjects"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: s3://laion-fmri at")
    assert error.count("\n") == 1


@pytest.mark.parametrize("url", ["nonsense", "http://", "127.0.0.1:1"])
def test_endpoint_that_is_no_url(elsewhere, url):
    elsewhere(url)
    with pytest.raises(LaionZarrError, match="AWS_ENDPOINT_URL"):
        discovery.get_subjects()


def test_bucket_that_is_not_there(front, monkeypatch):
    monkeypatch.setattr(bucket, "NAME", "no-such-bucket")
    with pytest.raises(LaionZarrError, match=r"s3://laion-fmri at .*: there is no such bucket"):
        discovery.get_subjects()


@pytest.mark.parametrize("status", [500, 503, 429])
def test_failures_for_a_moment_are_tried_again(front, status):
    front.fault("list-type=2", status=status, times=4)
    assert discovery.get_subjects() == ["sub-01", "sub-03"]
    assert len(front.requests) == 9


@pytest.mark.parametrize(("status", "n_requests"), [(500, 5), (429, 5), (403, 1), (404, 1)])
def test_lasting_failures_are_one_clear_error(front, status, n_requests):
    front.fault("list-type=2", status=status, times=99)
    with pytest.raises(LaionZarrError) as caught:
        discovery.get_subjects()
    assert f"HTTP {status}" in str(caught.value)
    assert "s3://laion-fmri" in str(caught.value)
    assert len(front.requests) == n_requests
    front.faults.clear()
    assert discovery.get_subjects() == ["sub-01", "sub-03"]


def test_slow_answer_is_tried_again(front, elsewhere, monkeypatch):
    monkeypatch.setattr(remote, "_TIMEOUT", 1)
    front.fault("list-type=2", delay=2)
    assert discovery.get_subjects() == ["sub-01", "sub-03"]
    assert len(front.requests) == 6


def test_cut_off_listing_is_tried_again(front):
    front.fault("list-type=2", cut_after=50)
    assert discovery.get_subjects() == ["sub-01", "sub-03"]
