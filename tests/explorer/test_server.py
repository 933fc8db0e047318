"""What the explorer's server answers, and what it refuses."""

from __future__ import annotations

import gzip
import http.client
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from explorer_server import exploring
from hypothesis import given
from hypothesis import strategies as st
from zarr.core.buffer.cpu import Buffer
from zarr.core.sync import sync
from zarr.storage import MemoryStore

from laion_zarr.errors import StoreError
from laion_zarr.explorer.objects import is_key, local_path, read_object
from laion_zarr.store.objects import open_store

STORE = "/laion-fmri.zarr/"


@pytest.fixture(scope="module")
def server(store):
    with exploring(store) as address:
        yield address


def ask(address: str, path: str, method: str = "GET", **headers: str):
    """Answer to a request whose path is sent as it is."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def test_serves_the_page_and_the_store(server, store):
    answer, body = ask(server, "/")
    assert answer.status == 200
    assert b"explorer.js" not in body
    assert b"start.js" in body
    for name in ("start.js", "explorer.js", "explorer.css", "licenses.txt"):
        assert ask(server, f"/{name}")[0].status == 200
    answer, body = ask(server, f"{STORE}sub-01/manifest.json")
    assert (answer.status, body) == (200, (store / "sub-01/manifest.json").read_bytes())


def test_packs_what_is_text_for_who_asks(server, store):
    for name in ("sub-01/manifest.json", "sub-01/voxels/i/zarr.json"):
        answer, body = ask(server, f"{STORE}{name}", **{"Accept-Encoding": "gzip"})
        assert answer.getheader("Content-Encoding") == "gzip"
        data = (store / name).read_bytes()
        assert gzip.decompress(body) == data
        assert len(body) < len(data)
    name = "sub-01/voxels/i/c/0"
    answer, body = ask(server, f"{STORE}{name}", **{"Accept-Encoding": "gzip"})
    assert (answer.getheader("Content-Encoding"), body) == (None, (store / name).read_bytes())


@pytest.mark.parametrize(
    ("span", "expected"),
    [("bytes=0-9", slice(0, 10)), ("bytes=5-", slice(5, None)), ("bytes=-7", slice(-7, None))],
)
def test_serves_ranges(server, store, span, expected):
    data = (store / "manifest.json").read_bytes()
    answer, body = ask(server, f"{STORE}manifest.json", Range=span)
    assert (answer.status, body) == (206, data[expected])
    assert answer.getheader("Content-Range").endswith(f"/{len(data)}")


def test_head_has_no_body(server, store):
    answer, body = ask(server, f"{STORE}manifest.json", "HEAD")
    assert (answer.status, body) == (200, b"")
    assert int(answer.getheader("Content-Length")) == (store / "manifest.json").stat().st_size


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_only_get_and_head(server, method):
    for path in ("/", f"{STORE}manifest.json", "/elsewhere"):
        assert ask(server, path, method)[0].status == 405


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_other_hosts_are_refused(server, host):
    for path in ("/", f"{STORE}manifest.json"):
        assert ask(server, path, Host=host)[0].status in (400, 403)
    assert ask(server, "/", Host="localhost:9")[0].status == 200  # as through a tunnel


@pytest.mark.parametrize(
    "path",
    [
        "/../pyproject.toml",
        "/explorer.py",
        "/server.py",
        "/page/index.html",
        f"{STORE}../secret",
        f"{STORE}%2e%2e/secret",
        f"{STORE}..%2fsecret",
        f"{STORE}sub-01/%2e%2e/%2e%2e/secret",
        f"{STORE}sub-01/..%5c..%5csecret",
        f"{STORE}/etc/passwd",
        f"{STORE}%2fetc%2fpasswd",
        f"{STORE}sub-01",
        f"{STORE}sub-01/",
        f"{STORE}manifest.json%00",
        STORE,
    ],
)
def test_nothing_else_is_served(server, store, path):
    secret = store.parent / "secret"
    secret.write_bytes(b"secret")
    answer, body = ask(server, path)
    assert answer.status in (400, 403, 404)
    assert b"secret" not in body


def test_links_within_the_store_work_and_those_that_leave_it_are_refused(copy_of, store):
    own = copy_of(store)
    outside = own.parent / "outside"
    outside.write_bytes(b"outside")
    (own / "leaves").symlink_to(outside)
    (own / "folder").symlink_to(own.parent)
    (own / "stays").symlink_to(own / "manifest.json")
    with exploring(own) as address:
        for path in ("leaves", "folder/outside"):
            answer, body = ask(address, STORE + path)
            assert answer.status == 403
            assert f"{own / path.split('/')[0]} is a link to" in body.decode()
            assert "outside: nothing outside of a store is read" in body.decode()
        assert ask(address, f"{STORE}stays")[1] == (own / "manifest.json").read_bytes()
    with pytest.raises(StoreError, match="nothing outside of a store is read"):
        read_object(open_store(own), "leaves")


def test_policy_names_no_other_place(server):
    for path in ("/", f"{STORE}manifest.json", "/nowhere"):
        answer, _ = ask(server, path)
        policy = answer.getheader("Content-Security-Policy")
        assert "default-src 'none'" in policy
        assert "http" not in policy
        assert "unsafe" not in policy
        assert answer.getheader("Cache-Control") == "no-store"
        assert answer.getheader("Cross-Origin-Resource-Policy") == "same-origin"
        assert answer.getheader("Access-Control-Allow-Origin") is None


@pytest.mark.parametrize("span", ["bytes=9-2", "bytes=x-", "pages=0-1"])
def test_ranges_that_are_none(server, span):
    assert ask(server, f"{STORE}manifest.json", Range=span)[0].status in (200, 416)


def test_stores_elsewhere_are_passed_on():
    """Any Zarr store that is no folder, such as one in a bucket."""
    data = bytes(range(256))
    store = MemoryStore()
    sync(store.set("a/chunk", Buffer.from_bytes(data)))
    with exploring(store) as address:
        path = f"{STORE}a/chunk"
        assert ask(address, path)[1] == data
        answer, body = ask(address, path, Range="bytes=10-19")
        assert (answer.status, body) == (206, data[10:20])
        assert answer.getheader("Content-Range").startswith("bytes 10-19/")
        assert ask(address, path, Range="bytes=-6")[1] == data[-6:]
        answer, body = ask(address, path, "HEAD")
        assert (answer.getheader("Content-Length"), body) == ("256", b"")
        for wrong in ("a/none", "a", "../a/chunk"):
            assert ask(address, STORE + wrong)[0].status == 404


@given(st.text("./\\ab\0", min_size=1, max_size=12))
def test_keys_lead_down(text):
    root = Path("/store")
    if is_key(text):
        assert Path(os.path.normpath(root / text)).is_relative_to(root)
        assert os.path.normpath(root / text) != str(root)


def test_missing_objects(store):
    opened = open_store(store)
    assert local_path(opened, "sub-01/none") is None
    assert read_object(opened, "sub-01/none") is None
    assert read_object(opened, "../secret") is None


def start(*arguments: str, **more) -> subprocess.Popen:
    command = [sys.executable, "-m", "laion_zarr.conversion.cli", "explore", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, preexec_fn=take_interrupts, **pipes, **more)


def take_interrupts() -> None:
    """Undo that a shell makes what it runs in the background ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_command_serves_until_interrupted(store):
    with start("--store", str(store), "--no-browser", "--port", "0") as process:
        line = process.stdout.readline()
        address = line.split()[1]
        assert address.startswith("http://127.0.0.1:")
        assert ask(address, f"{STORE}manifest.json")[0].status == 200
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert (process.returncode, out, error) == (0, "Stopped.\n", "")


def test_command_says_what_is_wrong(store, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with start("--store", str(store), "--no-browser", "--port", port) as process:
            _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"Port {port} cannot be used" in error
    with start("--store", str(tmp_path / "none"), "--no-browser") as process:
        _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "There is no laion_zarr store" in error
