"""A web server on localhost that serves a folder, with range requests or without."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, *arguments: Any, ranges: bool, **more: Any) -> None:
        self._ranges = ranges
        super().__init__(*arguments, **more)

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        span = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if not (self._ranges and span and path.is_file()):
            super().do_GET()  # knows no ranges: sends the whole file
            return
        data = path.read_bytes()
        start = int(span[1]) if span[1] else max(0, len(data) - int(span[2]))
        part = data[start : int(span[2]) + 1 if span[1] and span[2] else None]
        self.send_response(206 if part else 416)
        self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)


@contextmanager
def serving(folder: Path, *, ranges: bool = True) -> Iterator[str]:
    """Serve a folder; yields its URL."""
    handler = partial(_Handler, directory=str(folder), ranges=ranges)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
