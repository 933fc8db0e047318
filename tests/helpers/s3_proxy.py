"""A proxy before an S3 server: counts requests and bytes, and puts faults in. Any method passes."""

from __future__ import annotations

import http.client
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass
class Fault:
    """A fault of the next `times` requests whose ``METHOD /path`` matches."""

    pattern: str
    status: int = 0
    cut_after: int | None = None
    delay: float = 0
    times: int = 1


@dataclass
class Seen:
    """One request, and the bytes of its answer."""

    method: str
    path: str
    span: str | None
    authorized: bool
    nbytes: int = 0


@dataclass
class Proxy:
    """The proxy, seen from tests.

    Attributes
    ----------
    url : str
        Where it listens.
    seen : list of Seen
        Requests since `reset`.
    rounds : int
        How often a request came while no other was under way.
    """

    server: str
    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    rounds: int = 0
    latency: float = 0
    in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reset(self) -> None:
        self.seen, self.faults, self.rounds, self.latency = [], [], 0, 0

    def fault(self, pattern: str, **what: Any) -> None:
        self.faults.append(Fault(pattern, **what))

    def matching(self, pattern: str) -> list[Seen]:
        return [one for one in self.seen if re.search(pattern, f"{one.method} {one.path}")]

    def nbytes(self, pattern: str = "") -> int:
        return sum(one.nbytes for one in self.matching(pattern))

    def begin(self, request: Seen) -> Fault:
        """Note a request; what to do to it."""
        line = f"{request.method} {request.path}"
        with self.lock:
            self.seen.append(request)
            self.rounds += self.in_flight == 0
            self.in_flight += 1
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.pattern, line):
                    fault.times -= 1
                    return fault
        return Fault("", delay=self.latency)

    def end(self) -> None:
        with self.lock:
            self.in_flight -= 1


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body go out as two packets: without this, each answer waits for an ACK.
        disable_nagle_algorithm = True

        def log_message(self, *_: Any) -> None:
            pass

        def _serve(self) -> None:
            body = self._body()
            headers = self.headers
            request = Seen(
                self.command, unquote(self.path), headers["Range"], "Authorization" in headers
            )
            fault = proxy.begin(request)
            try:
                time.sleep(fault.delay)
                status, found, data = (
                    (fault.status, {}, b"") if fault.status else self._forward(body)
                )
            finally:
                proxy.end()
            request.nbytes = len(data)
            self._answer(status, found, data, fault.cut_after)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                found.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(found)

        def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
            server = http.client.HTTPConnection(proxy.server, timeout=60)
            try:
                server.request(self.command, self.path, body, headers)
                answer = server.getresponse()
                return answer.status, dict(answer.getheaders()), answer.read()
            finally:
                server.close()

        def _answer(
            self, status: int, headers: dict[str, str], data: bytes, cut: int | None
        ) -> None:
            length = str(len(data))
            if self.command == "HEAD":  # of the object, which is not sent
                length = headers.get("Content-Length") or headers.get("content-length") or "0"
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(data[:cut])
            if cut is not None:
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is part of the tests."""


@contextmanager
def proxied(server: str) -> Iterator[Proxy]:
    """A proxy before the server at ``host:port``."""
    proxy = Proxy(server)
    with _Server(("127.0.0.1", 0), _handler(proxy)) as http_server:
        proxy.url = f"http://127.0.0.1:{http_server.server_port}"
        thread = threading.Thread(target=http_server.serve_forever, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            http_server.shutdown()
            thread.join()
