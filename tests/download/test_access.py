"""Stimulus images behind the access service: the form, the links, and the error of each refusal."""

from __future__ import annotations

import json
import logging
import os
import stat
import traceback
from pathlib import Path

import pytest
import s3_server

import laion_zarr
from laion_zarr.conversion.cli import main
from laion_zarr.download import (
    accept_licenses,
    access_service,
    download,
    license,
    request_stimulus_access,
)
from laion_zarr.download.fetch import DownloadError
from laion_zarr.errors import AccessServiceError, LaionZarrError, TermsOutdatedError

ID = s3_server.REQUEST_ID
IMAGES = f"stimuli/{s3_server.IMAGES}"
CSV = "stimuli/task-images_metadata.csv"
NAME, EMAIL = "Ada L. Confidential", "ada.confidential@example.org"
PURPOSE = "Confidential study of how the brain sees pictures."
FORM = [NAME, EMAIL, "University of Secrets", "", PURPOSE, "I AGREE"]
SECRETS = (ID, "SECRET", "X-Signature", NAME, EMAIL, PURPOSE, "Secrets")


@pytest.fixture(autouse=True)
def _watched(front, caplog):
    """Nothing of it is ever logged."""
    caplog.set_level(logging.DEBUG)
    license.keep()
    yield
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith(("botocore", "boto"))]
    assert not [text for text in ours for secret in SECRETS if secret in text]


@pytest.fixture
def data(front):
    return Path(os.environ["LAION_ZARR_DATA_DIR"])


@pytest.fixture
def known(front, monkeypatch):
    """Somebody who has a request id."""
    monkeypatch.setenv("LAION_FMRI_REQUEST_ID", ID)


def typing(monkeypatch, answers):
    left = list(answers)

    def answer(prompt):
        if not left:
            raise EOFError
        return left.pop(0)

    monkeypatch.setattr(access_service, "can_ask", lambda: True)
    monkeypatch.setattr("builtins.input", answer)
    return left


def everything_in(error):
    """Text and arguments of an exception and of the exceptions that caused it."""
    seen, todo = [], [error]
    while todo:
        one = todo.pop()
        seen += [repr(one), repr(one.args), repr(vars(one))]
        todo += [inner for inner in (one.__cause__, one.__context__) if inner is not None]
    return "\n".join([*seen, *traceback.format_exception(error)])


def refused(ask, *words, kind=AccessServiceError):
    with pytest.raises(kind) as caught:
        ask()
    for word in words:
        assert word in str(caught.value)
    text = everything_in(caught.value)
    assert not [secret for secret in SECRETS if secret in text]
    return caught.value


def posts(front):
    return [one for one in front.requests if one.method == "POST"]


# -- the form


def test_form_is_sent_and_the_id_kept(front, data, monkeypatch, capsys):
    left = typing(monkeypatch, FORM)
    request_stimulus_access()
    assert not left
    (post,) = posts(front)
    assert json.loads(post.body) == {
        "name": NAME,
        "email": EMAIL,
        "institution": "University of Secrets",
        "pi_or_supervisor": None,
        "research_purpose": PURPOSE,
        "accepted_terms": True,
        "terms_version": s3_server.TERMS,
        "source": "cli",
    }
    file = access_service.id_file()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text())["request_id"] == ID
    shown = capsys.readouterr().out
    assert "Access granted" in shown
    assert not [secret for secret in SECRETS if secret in shown]
    laion_zarr.download_stimuli()
    assert (data / IMAGES).read_bytes() == front.service.files[s3_server.IMAGES]


def test_id_file_of_before_is_replaced(front, monkeypatch):
    file = access_service.id_file()
    file.write_text("{}")
    file.chmod(0o644)
    typing(monkeypatch, FORM)
    assert main(["request-access"]) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_wrong_answers_are_asked_for_again(front, monkeypatch, capsys):
    answers = ["", NAME, "no address", EMAIL, "Uni", "", "too short", PURPOSE, "I AGREE"]
    left = typing(monkeypatch, answers)
    request_stimulus_access()
    assert not left
    shown = capsys.readouterr().out
    for words in ("your name", "an e-mail address", "at least 20 characters"):
        assert f"Please give {words}." in shown
    assert len(posts(front)) == 1


@pytest.mark.parametrize("answers", [FORM[:-1], [*FORM[:-1], "no"], [""] * 9, [], FORM[:2]])
def test_form_that_is_not_filled_in_sends_nothing(front, monkeypatch, answers):
    typing(monkeypatch, answers)
    refused(request_stimulus_access, "nothing was sent", "laion-zarr request-access")
    assert not posts(front)
    assert not access_service.id_file().exists()


def test_form_where_nobody_can_type(front):
    refused(request_stimulus_access, "at a terminal", "LAION_FMRI_REQUEST_ID")
    refused(laion_zarr.download_stimuli, "Data Use Agreement", "laion-zarr request-access")
    assert not front.requests


def test_form_that_the_service_finds_wrong(front, monkeypatch):
    monkeypatch.setattr(access_service, "MIN_PURPOSE", 1)
    form = tuple((*field[:2], r".*", "") for field in access_service._FORM)
    monkeypatch.setattr(access_service, "_FORM", form)
    typing(monkeypatch, [*FORM[:4], "Confidential", "I AGREE"])
    error = refused(request_stimulus_access, "HTTP 422", "research_purpose")
    assert "Confidential" not in everything_in(error)


def test_form_is_sent_once_even_if_the_service_fails(front, monkeypatch):
    typing(monkeypatch, FORM)
    front.fault("POST .*access/request", status=500, times=9)
    refused(request_stimulus_access, "HTTP 500")
    assert len(posts(front)) == 1


def test_licences_of_both(front, monkeypatch):
    typing(monkeypatch, FORM)
    accept_licenses()
    assert not posts(front)
    accept_licenses(include_stimuli=True)
    accept_licenses(include_stimuli=True)
    assert len(posts(front)) == 1


def test_service_that_names_no_terms(front, monkeypatch):
    typing(monkeypatch, FORM)
    front.service.terms = None
    refused(request_stimulus_access, "no version of its terms")
    assert not posts(front)


# -- the download


def test_images_and_their_table(front, data, known, capsys):
    report = laion_zarr.download_stimuli()
    assert set(report.fetched) == {IMAGES, CSV}
    for name, content in front.service.files.items():
        assert (data / "stimuli" / name).read_bytes() == content
    assert not front.listings()
    front.requests.clear()
    assert laion_zarr.download_stimuli().fetched == ()
    assert [one.path for one in front.requests] == ["/access/api/v1/refresh"]
    shown = capsys.readouterr()
    record = (data / ".laion-zarr/objects.jsonl").read_text()
    assert not [secret for secret in SECRETS for text in (*shown, record) if secret in text]


def test_with_a_subject(front, data, known):
    download("01", ses="01", include_stimuli=True, n_jobs=4)
    assert (data / IMAGES).is_file()
    assert (data / CSV).is_file()


def test_access_is_settled_before_the_long_download(front):
    refused(lambda: download("01", include_stimuli=True), "Data Use Agreement")
    assert not front.requests


def test_table_from_the_bucket_if_the_service_has_none(front, data, known, monkeypatch):
    images = {s3_server.IMAGES: front.service.files[s3_server.IMAGES]}
    monkeypatch.setattr(front.service, "files", images)
    laion_zarr.download_stimuli()
    assert (data / CSV).is_file()


def test_table_from_either_place_is_the_same(front, data, known):
    laion_zarr.download_captions()
    assert laion_zarr.download_stimuli().fetched == (IMAGES,)
    front.requests.clear()
    assert laion_zarr.download_captions().fetched == ()
    assert not front.gets()


def test_service_without_the_images(front, known, monkeypatch):
    monkeypatch.setattr(front.service, "files", {"../../evil": b"x"})
    refused(laion_zarr.download_stimuli, s3_server.IMAGES)


def test_cut_off_images_are_continued_by_range(front, data, known):
    front.fault(s3_server.IMAGES, cut_after=10_000)
    laion_zarr.download_stimuli()
    asked = [r.headers.get("Range") for r in front.gets() if s3_server.IMAGES in r.path]
    assert asked == [None, "bytes=10000-"]
    assert (data / IMAGES).read_bytes() == front.service.files[s3_server.IMAGES]


def test_images_cut_off_in_another_run(front, data, known):
    front.fault(s3_server.IMAGES, cut_after=10_000)
    front.fault(s3_server.IMAGES, status=503, times=99)
    refused(laion_zarr.download_stimuli, "HTTP 503", kind=DownloadError)
    front.faults.clear()
    front.requests.clear()
    laion_zarr.download_stimuli()
    (request,) = front.gets()
    assert request.headers["Range"] == "bytes=10000-"


def test_range_that_is_not_answered_is_skipped(front, data, known):
    front.fault(s3_server.IMAGES, cut_after=10_000)
    front.fault(s3_server.IMAGES, ignore_range=True)
    laion_zarr.download_stimuli()
    assert (data / IMAGES).read_bytes() == front.service.files[s3_server.IMAGES]


def test_expired_link_is_refreshed_once(front, data, known, monkeypatch):
    front.service.strict = True
    ask, count = access_service._ask_service, []

    def hand_out_twice(path, payload=None):
        """The first links expire before they are used."""
        count.append(path)
        found = ask(path, payload)
        return ask(path, payload) and found if len(count) == 1 else found

    monkeypatch.setattr(access_service, "_ask_service", hand_out_twice)
    laion_zarr.download_stimuli()
    assert (data / IMAGES).read_bytes() == front.service.files[s3_server.IMAGES]
    assert len(count) == 2  # both files wanted new links, and one refresh served them


def test_link_that_expires_on_the_way(front, data, known):
    front.fault(s3_server.IMAGES, cut_after=10_000)
    front.fault(s3_server.IMAGES, status=403)
    laion_zarr.download_stimuli()
    assert (data / IMAGES).read_bytes() == front.service.files[s3_server.IMAGES]
    assert front.service.links == 2


@pytest.mark.parametrize("status", [403, 404, 500])
def test_link_that_stays_bad(front, data, known, status):
    front.fault(s3_server.IMAGES, status=status, times=99)
    error = refused(laion_zarr.download_stimuli, "1 of 2 files", kind=DownloadError)
    assert set(error.failed) == {IMAGES}
    assert (data / CSV).is_file()


def test_wrong_sha256(front, data, known):
    front.service.wrong_sha = True
    refused(laion_zarr.download_stimuli, "expected sha256 000", kind=DownloadError)
    assert not (data / IMAGES).exists()
    front.service.wrong_sha = False
    laion_zarr.download_stimuli()


def test_damage_on_the_way(front, data, known):
    front.fault(s3_server.IMAGES, flip=True)
    refused(laion_zarr.download_stimuli, "expected sha256", kind=DownloadError)
    assert not (data / IMAGES).exists()


def test_slow_links(front, data, known, monkeypatch):
    monkeypatch.setattr(access_service, "TIMEOUT", 0.5)
    front.fault(f"GET .*{s3_server.IMAGES}", delay=1)
    laion_zarr.download_stimuli()
    assert (data / IMAGES).is_file()


# -- refusals


def test_unknown_id(front, monkeypatch):
    monkeypatch.setenv("LAION_FMRI_REQUEST_ID", "other-SECRET")
    refused(laion_zarr.download_stimuli, "does not know", "LAION_FMRI_REQUEST_ID")
    monkeypatch.delenv("LAION_FMRI_REQUEST_ID")
    access_service._keep_id("another-SECRET")
    refused(laion_zarr.download_stimuli, "does not know", "access.json", "request-access")


def test_revoked(front, known):
    front.service.revoked.add(ID)
    refused(laion_zarr.download_stimuli, "revoked")


def test_outdated_terms(front, known):
    front.service.outdated = True
    page = f"{front.url}/access/terms/accept"
    refused(laion_zarr.download_stimuli, "version 3.0", page, kind=TermsOutdatedError)


def test_rate_limit(front, known):
    front.fault("refresh", status=429, headers={"Retry-After": "30"}, times=99)
    refused(laion_zarr.download_stimuli, "HTTP 429", "in 30 seconds")
    assert len(front.requests) == 1


def test_failure_for_a_moment(front, known):
    front.fault("refresh", status=502, times=3)
    laion_zarr.download_stimuli()


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"files": 3}', b'{"files": [{}]}', b"\xff"])
def test_answer_that_cannot_be_read(front, known, body):
    front.fault("refresh", status=200, body=body, times=99)
    refused(laion_zarr.download_stimuli, "cannot be read")


def test_links_to_elsewhere_are_refused(front, known):
    for url in ("file:///etc/passwd", "http://example.org/x", "ftp://example.org/x"):
        entry = {"name": s3_server.IMAGES, "size": 1, "sha256": "0" * 64, "url": url}
        front.fault("refresh", status=200, body=json.dumps({"files": [entry]}).encode())
        refused(laion_zarr.download_stimuli, "cannot be read")


def test_unreachable_service(front, known, monkeypatch, capsys):
    url = f"http://127.0.0.1:{s3_server.free_port()}"
    monkeypatch.setenv("LAION_ZARR_ACCESS_URL", url)
    refused(laion_zarr.download_stimuli, url, "cannot be reached", "HTTPS_PROXY")
    assert main(["download-stimuli"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: The access service at")
    assert error.count("\n") == 1


@pytest.mark.parametrize("url", ["http://example.org", "file:///tmp", "nonsense"])
def test_service_that_others_could_listen_to(front, known, monkeypatch, url):
    monkeypatch.setenv("LAION_ZARR_ACCESS_URL", url)
    refused(laion_zarr.download_stimuli, "LAION_ZARR_ACCESS_URL", "https://")


def test_id_of_another_service_is_not_sent(front, monkeypatch):
    access_service._keep_id(ID)
    monkeypatch.setenv("LAION_ZARR_ACCESS_URL", f"{front.url}/access/other")
    refused(laion_zarr.download_stimuli, "request-access", kind=LaionZarrError)
    assert not front.requests


def test_debug_shows_no_secret(front, known, monkeypatch):
    front.service.revoked.add(ID)
    with pytest.raises(AccessServiceError) as caught:
        main(["download-stimuli", "--debug"])
    assert not [secret for secret in SECRETS if secret in everything_in(caught.value)]
