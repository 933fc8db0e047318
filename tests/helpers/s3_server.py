"""Servers on localhost: moto's S3 in a process of its own, the access service, a proxy for both.

The proxy counts requests and puts faults in: refusals, delays, bodies cut off or changed.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3

BUCKET = "laion-fmri"
PRIVATE = "laion-fmri-stimuli"
IMAGES = "task-images_stimuli.h5"
TERMS = "2.1"
REQUEST_ID = "req-0123456789abcdef-SECRET"
_HOP = {"connection", "keep-alive", "transfer-encoding", "host", "content-length"}


@dataclass
class Fault:
    """A fault of the next `times` requests that match."""

    pattern: str
    status: int = 0
    body: bytes = b"<html>no XML</html>"
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    delay: float = 0
    flip: bool = False
    ignore_range: bool = False
    times: int = 1


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Service:
    """The access service, from its contract."""

    def __init__(self) -> None:
        self.terms = TERMS
        self.known = {REQUEST_ID}
        self.revoked: set[str] = set()
        self.outdated = False
        self.links = 0  # handed out so far; the newest alone is good if `strict`
        self.strict = False
        self.files: dict[str, bytes] = {}
        self.wrong_sha = False

    def answer(self, method: str, path: str, body: bytes, base: str) -> tuple[int, Any]:
        if (method, path) == ("GET", "/api/v1/manifest"):
            return 200, {"current_terms_version": self.terms, "dataset_version": "v1"}
        form = json.loads(body)
        if path == "/api/v1/access/request":
            if not form["accepted_terms"] or len(form["research_purpose"]) < 20:
                entry = {"loc": ["body", "research_purpose"], "input": form["research_purpose"]}
                return 422, {"detail": [entry]}
            return 200, {"request_id": REQUEST_ID, **self._files(base)}
        request_id = form["request_id"]
        if request_id not in self.known:
            return 404, {"detail": f"no request {request_id}"}
        if request_id in self.revoked:
            return 403, {"detail": f"request {request_id} was revoked"}
        if self.outdated:
            detail = {
                "error": "terms_outdated",
                "accept_url": f"{base}/access/terms/accept?rid={request_id}",
                "current_terms_version": "3.0",
            }
            return 403, {"detail": detail}
        return 200, self._files(base)

    def _files(self, base: str) -> dict[str, Any]:
        self.links += 1
        files = [
            {
                "name": name,
                "url": f"{base}/{PRIVATE}/{name}?X-Signature=link{self.links}-SECRET",
                "size": len(data),
                "sha256": "0" * 64 if self.wrong_sha else hashlib.sha256(data).hexdigest(),
            }
            for name, data in self.files.items()
        ]
        return {"expires_at": "2030-01-01T00:00:00Z", "files": files}

    def is_expired(self, path: str) -> bool:
        return self.strict and f"link{self.links}-" not in path


class Front:
    """The proxy, seen from tests."""

    def __init__(self, moto: str) -> None:
        self.s3 = boto3.client(
            "s3",
            endpoint_url=moto,
            region_name="us-west-2",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        self.moto = urlsplit(moto).netloc
        self.url = ""
        self.lock = threading.Lock()
        self._changed: dict[str, bytes | None] = {}
        self.reset()

    def reset(self) -> None:
        files = self.service.files if hasattr(self, "service") else {}
        self.service = Service()
        self.service.files = files
        self.requests: list[Request] = []
        self.faults: list[Fault] = []

    def fault(self, pattern: str, **what: Any) -> None:
        self.faults.append(Fault(pattern, **what))

    def put(self, key: str, data: bytes, multipart: bool = False) -> None:
        """Put an object in the bucket until the test is over."""
        if key not in self._changed:
            found = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=key).get("Contents", [])
            there = any(one["Key"] == key for one in found)
            self._changed[key] = (
                self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() if there else None
            )
        if not multipart:
            self.s3.put_object(Bucket=BUCKET, Key=key, Body=data, ACL="public-read")
            return
        upload = self.s3.create_multipart_upload(Bucket=BUCKET, Key=key, ACL="public-read")[
            "UploadId"
        ]
        where = {"Bucket": BUCKET, "Key": key, "UploadId": upload}
        size = 5 << 20
        parts = [
            {
                "PartNumber": number + 1,
                "ETag": self.s3.upload_part(
                    **where,
                    PartNumber=number + 1,
                    Body=data[number * size : (number + 1) * size],
                )["ETag"],
            }
            for number in range(-(-len(data) // size))
        ]
        self.s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})

    def restore(self) -> None:
        for key, data in self._changed.items():
            if data is None:
                self.s3.delete_object(Bucket=BUCKET, Key=key)
            else:
                self.s3.put_object(Bucket=BUCKET, Key=key, Body=data, ACL="public-read")
        self._changed.clear()

    def take(self, line: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.pattern, line):
                    fault.times -= 1
                    return fault
        return None

    def listings(self) -> list[Request]:
        return [one for one in self.requests if "list-type=2" in one.path]

    def gets(self) -> list[Request]:
        """Requests for objects of the bucket or files behind links."""
        return [one for one in self.requests if re.match(rf"/{BUCKET}[^?]*/[^?]+", one.path)]


def _handler(front: Front) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with front.lock:
                front.requests.append(Request(self.command, self.path, dict(self.headers), body))
            fault = front.take(f"{self.command} {self.path}") or Fault("")
            if fault.delay:
                time.sleep(fault.delay)
            if fault.status:
                self._send(fault.status, fault.headers, fault.body)
            elif self.path.startswith("/access/"):
                path = self.path.removeprefix("/access")
                status, found = front.service.answer(self.command, path, body, front.url)
                self._send(status, {}, json.dumps(found).encode())
            elif f"/{PRIVATE}/" in self.path and front.service.is_expired(self.path):
                self._send(403, {}, b"<Error><Code>AccessDenied</Code></Error>")
            else:
                self._forward(body, fault)

        do_GET = do_POST = do_HEAD = _serve

        def _forward(self, body: bytes, fault: Fault) -> None:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
            if fault.ignore_range:
                headers.pop("Range", None)
            moto = http.client.HTTPConnection(front.moto, timeout=30)
            try:
                moto.request(self.command, self.path.partition("?X-Sig")[0], body, headers)
                answer = moto.getresponse()
                data = answer.read()
                kept = {k: v for k, v in answer.getheaders() if k.lower() not in _HOP}
            finally:
                moto.close()
            if fault.flip:
                data = data[:-1] + bytes([data[-1] ^ 1])
                kept = {k: v for k, v in kept.items() if "checksum" not in k.lower()}
            self._send(answer.status, kept, data, fault.cut_after)

        def _send(
            self, status: int, headers: dict[str, str], data: bytes, cut: int | None = None
        ) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[:cut])
            if cut is not None:
                self.wfile.flush()
                time.sleep(0.2)  # what came is read before the end of the connection is seen
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

    return Handler


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "moto's server ended"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError("moto's server does not answer")


@contextmanager
def _moto() -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _fill(front: Front, root: Path) -> None:
    for bucket in (BUCKET, PRIVATE):
        front.s3.create_bucket(
            Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "us-west-2"}
        )
    files = [path for path in root.rglob("*") if path.is_file() and path.name != IMAGES]
    with ThreadPoolExecutor(8) as pool:
        puts = [
            pool.submit(
                front.s3.put_object,
                Bucket=BUCKET,
                Key=path.relative_to(root).as_posix(),
                Body=path.read_bytes(),
                ACL="public-read",
            )
            for path in files
        ]
        for put in puts:
            put.result()
    for name in (IMAGES, "task-images_metadata.csv"):
        data = (root / "stimuli" / name).read_bytes()
        front.service.files[name] = data
        front.s3.put_object(Bucket=PRIVATE, Key=name, Body=data, ACL="public-read")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is part of the tests."""


@contextmanager
def serve(root: Path) -> Iterator[Front]:
    """Moto with a mirror in it, and the proxy before it."""
    with _moto() as moto:
        front = Front(moto)
        _fill(front, root)
        server = _Server(("127.0.0.1", 0), _handler(front))
        front.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield front
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
            front.s3.close()
