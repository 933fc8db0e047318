"""Addresses of stores in messages can be pasted; web servers are blamed for what they cannot do."""

from __future__ import annotations

import re
import shlex

import numpy as np
import pytest
from small_mirror import new, report_of, whole, whole_store  # noqa: F401
from web_server import serving
from zarr.storage import FsspecStore

from laion_zarr import load_subject
from laion_zarr.conversion.cli import main
from laion_zarr.conversion.verification.store import run_verification
from laion_zarr.errors import NotConvertedError, StoreError
from laion_zarr.store.objects import location, open_store
from laion_zarr.store.remote import RemoteStore, name_of

URLS = {
    "http://host:8080/a/store.zarr": "http://host:8080/a/store.zarr/sub-01/zarr.json",
    "https://host/store.zarr/": "https://host/store.zarr/sub-01/zarr.json",
    "s3://bucket/a/store.zarr": "s3://bucket/a/store.zarr/sub-01/zarr.json",
    "s3a://bucket/store.zarr": "s3a://bucket/store.zarr/sub-01/zarr.json",
    "memory://store.zarr": "memory://store.zarr/sub-01/zarr.json",
}


@pytest.mark.parametrize("url", URLS)
def test_addresses(url):
    store = open_store(url)
    assert location(store) == url.rstrip("/")
    assert location(store, "sub-01/zarr.json") == URLS[url]
    assert location(store.with_read_only(True)) == url.rstrip("/")
    assert open_store(location(store)).path.rstrip("/") == store.path.rstrip("/")


@pytest.mark.parametrize("url", [url for url in URLS if "::" not in url and "s3a" not in url])
def test_addresses_of_stores_that_zarr_opened(url):
    store = FsspecStore.from_url(url, storage_options={})
    assert name_of(store, "sub-01/zarr.json") == URLS[url]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("zip::s3://bucket/store.zip", "zip://sub-01/zarr.json::s3://bucket/store.zip"),
        ("simplecache::s3://bucket/a.zarr", "simplecache::s3://bucket/a.zarr/sub-01/zarr.json"),
        ("zip://in/it::http://host/a.zip", "zip://in/it/sub-01/zarr.json::http://host/a.zip"),
    ],
)
def test_addresses_in_chains(url, expected):
    store = RemoteStore.at("memory://x", None, True)
    store.url = url
    assert location(store) == url
    assert location(store, "sub-01/zarr.json") == expected


@pytest.fixture(scope="module")
def served(whole_store):  # noqa: F811
    with serving(whole_store.parent) as url:
        yield f"{url}/{whole_store.name}"


def test_a_store_at_a_web_server(whole, served):  # noqa: F811
    expected = load_subject("01", served).get_betas("ses-01")
    assert not run_verification(served, whole, True, None, False).problems
    assert np.isfinite(expected.values).any()


def test_info_and_messages(served, capsys):
    assert main(["info", "--store", served]) == 0
    out = capsys.readouterr().out
    assert f"Store: {served}\n" in out
    assert "http://http" not in out
    for ask in (lambda: load_subject("99", served), lambda: load_subject("01", f"{served}x")):
        with pytest.raises(NotConvertedError) as caught:
            ask()
        assert "http://http" not in str(caught.value)
        (command,) = re.findall(r"'(laion-zarr convert .*?)'", str(caught.value))
        place = shlex.split(command)[shlex.split(command).index("--store") + 1]
        assert place.removesuffix("x") == served


def test_a_web_server_without_ranges(whole_store):  # noqa: F811
    with serving(whole_store.parent, ranges=False) as url:
        store = f"{url}/{whole_store.name}"
        betas = load_subject("01", store).get_betas("ses-01")
        with pytest.raises(StoreError, match="range requests") as caught:
            betas.compute()
        assert f"{store}/sub-01/ses-01/betas/c/0/0" in str(caught.value)
        for blame in ("damaged", "cut", "--overwrite"):
            assert blame not in str(caught.value)


def test_a_mirror_at_a_web_server(whole, new):  # noqa: F811
    with serving(whole) as url:
        assert not report_of(url, new, subjects="01", parts="betas", n_workers=1).failed
        assert not report_of(url, new, subjects="01", parts="betas", n_workers=1).converted
    report = report_of(whole, new, subjects="01", parts="betas", n_workers=1)
    assert not report.converted


def test_a_mirror_at_a_web_server_without_ranges(whole, new, monkeypatch):  # noqa: F811
    for name in ("_SMALL", "_HEAD"):
        monkeypatch.setattr(f"laion_zarr.conversion.source.remote.{name}", 300)
    with serving(whole, ranges=False) as url:
        report = report_of(url, new, subjects="01", parts="betas", n_workers=1)
    assert report.failed
    for error in report.failed.values():
        assert "range requests" in str(error)
        assert "damaged" not in str(error)
