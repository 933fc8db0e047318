"""A mirror of the release at a URL, read with as few requests as possible.

A small file is fetched once and kept in memory. Of a large gzip file, only some bytes are requested
for its identity before the file is read sequentially, in large ranges. A large unpacked NIfTI is
read sequentially too. Any other large file is downloaded into an anonymous temporary file, and kept
there until it is read: when its checksum is computed, or, if it is so large that a sample of its
bytes is its identity, when it is opened.
"""

from __future__ import annotations

import io
import tempfile
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import cached_property, partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO, TypeVar

import fsspec

from laion_zarr import _release as release
from laion_zarr.conversion.source.identity import (
    Identity,
    identify,
    identity_of_all,
    is_read_whole,
)
from laion_zarr.errors import DataNotDownloadedError, LaionZarrError, SourceError
from laion_zarr.store.remote import (
    explain,
    options,
    retrying,
    without_ranges,
    without_retries,
)

T = TypeVar("T")

_SMALL = 1 << 20  # bytes: a file up to this size is kept in memory
_KEPT = 256 << 20  # bytes of all small files that are kept in memory
_HEAD = 16 << 10  # bytes of the first request: enough if only the header is read
_BLOCK = 16 << 20  # bytes of each further request
_READ = 4 << 20  # bytes read at once to copy a file
_AHEAD = 3  # requests of _BLOCK at a time: one request alone is slower than inflating a block
_AT_ONCE = 32  # small requests at a time
_VERSIONS = (
    *("ETag", "etag", "md5Hash", "Content-MD5", "Digest", "mtime", "created", "LastModified"),
    "Last-Modified",
)

Version = tuple[int, str]  # size in bytes, and a mark of the version (the ETag)


class Remote:
    """The files below a URL; only the URL and the versions of the files are pickled.

    Parameters
    ----------
    root : str
        URL of the data directory.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._versions: dict[str, Version] = {}
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._small: OrderedDict[str, bytes] = OrderedDict()
        self._identities: dict[str, Identity] = {}
        self._spooled: dict[str, BinaryIO] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "_versions": self._versions}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    @cached_property
    def _fs(self) -> tuple[Any, str]:
        filesystem, root = fsspec.core.url_to_fs(self.root, **options(self.root))
        return without_retries(filesystem), root.rstrip("/")

    def _name(self, path: str) -> str:
        return f"{self.root.rstrip('/')}/{path}".rstrip("/")

    def _ask(self, path: str, request: Callable[[Any, str], T]) -> T:
        """Call `request(file system, full path)`, with retries; an error names the file."""
        try:
            fs, root = self._fs
            return retrying(partial(request, fs, f"{root}/{path}".rstrip("/")))
        except LaionZarrError:
            raise
        except Exception as error:  # fsspec and the libraries below it raise many types
            raise SourceError(f"{self._name(path)} cannot be read: {explain(error)}.") from error

    # -- what is there

    def listing(
        self, subjects: Collection[str] | None, folders: Iterable[PurePosixPath]
    ) -> list[str]:
        """Relative paths of all files that are needed; records the version of each file.

        Parameters
        ----------
        subjects : collection of str or None
            Subjects whose files are needed; None for all subjects.
        folders : iterable of PurePosixPath
            Folders of the release that are needed, see `release.folders_to_list`.
        """
        there = self.folders("")
        if not there:
            raise DataNotDownloadedError(
                f"{self.root} is not there, or holds nothing. Name the place that holds "
                "'derivatives/' with --source, such as s3://laion-fmri."
            )
        tops = release.folders_to_list(folders, subjects, there)
        names: list[str] = []
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            listed = list(pool.map(self._find, map(str, tops)))
        for found in listed:
            versions = {name[len(self._fs[1]) :].lstrip("/"): i for name, i in found.items()}
            self._versions |= {  # web servers list no sizes: these are asked for one by one
                name: _version(info)
                for name, info in versions.items()
                if info.get("size") is not None
            }
            names += filter(release.is_published, versions)
        return names

    def folders(self, parent: str) -> list[str]:
        """Names of the folders directly in a folder, sorted; none if there is no such folder."""

        def ask(fs: Any, path: str) -> list[dict[str, Any]]:
            try:
                return fs.ls(path, detail=True)
            except FileNotFoundError:
                return []

        found = [entry["name"] for entry in self._ask(parent, ask) if entry["type"] == "directory"]
        return sorted(PurePosixPath(name).name for name in found)

    def _find(self, folder: str) -> dict[str, Any]:
        """Information on every file below a folder; none if there is no such folder."""
        return self._ask(folder, lambda fs, path: fs.find(path, detail=True))

    def _now(self, path: str) -> Version:
        """Request the current version of a file."""

        def ask(fs: Any, full: str) -> Version:
            fs.invalidate_cache()
            info = fs.info(full)
            if info.get("size") is None:
                raise SourceError(f"{self._name(path)}: the server does not say how large it is.")
            return _version(info)

        return self._ask(path, ask)

    def _version(self, path: str) -> Version:
        if path not in self._versions:
            self._versions[path] = self._now(path)
        return self._versions[path]

    def size(self, path: str) -> int:
        """Size of a file in bytes."""
        return self._version(path)[0]

    def etag(self, path: str) -> str | None:
        """ETag (or another mark of the version) of a listed file; None if there is none."""
        return self._versions.get(path, (0, ""))[1] or None

    def changed(self, paths: Iterable[str]) -> list[str]:
        """Files whose version is no longer the recorded one; makes one request for each file.

        The identity of a file whose server marks no versions is computed anew.
        """
        paths = list(paths)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return [
                p for p, other in zip(paths, pool.map(self._is_other, paths), strict=True) if other
            ]

    def _is_other(self, path: str) -> bool:
        now, before = self._now(path), self._version(path)
        if now != before or now[1] or path not in self._identities:
            return now != before
        with self._lock:
            self._small.pop(path, None)
        return self._identity(path) != self._identities[path]

    def look_ahead(self, paths: Iterable[str]) -> None:
        """Fetch and cache the identity of many files concurrently; `identity` raises the errors."""
        some = [p for p in paths if self._is_small(p) or p.endswith(".gz")]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for future in [pool.submit(self.identity, path) for path in some]:
                future.exception()

    # -- content

    def _is_small(self, path: str) -> bool:
        return self._versions.get(path, (_SMALL + 1, ""))[0] <= _SMALL

    def _fetch(self, path: str, start: int, end: int) -> bytes:
        def ask(fs: Any, full: str) -> bytes:
            data = fs.cat_file(full, start=start, end=end)
            if len(data) > end - start:
                raise SourceError(without_ranges(self._name(path)))
            if len(data) != end - start:
                raise OSError(f"{len(data):,} bytes came, expected {end - start:,}")
            return data

        return self._ask(path, ask) if end > start else b""

    def _keep(self, path: str) -> bytes:
        """Content of a small file, fetched once and kept in memory."""
        with self._lock:
            if path in self._small:
                self._small.move_to_end(path)
                return self._small[path]
        data = self._fetch(path, 0, self.size(path))
        with self._lock:
            self._small[path] = data
            while sum(map(len, self._small.values())) > _KEPT:
                self._small.popitem(last=False)
        return data

    def _stream(self, path: str) -> _Stream:
        return _Stream(partial(self._fetch, path), self.size(path))

    def open(self, path: str) -> BinaryIO:
        """Open a file for one sequential read."""
        if self.size(path) <= _SMALL:
            return io.BytesIO(self._keep(path))
        if _is_streamed(path):
            return self._stream(path)  # type: ignore[return-value]
        if path not in self._spooled:
            self._spool(path)
        file = self._spooled.pop(path)  # deleted when it is closed
        file.seek(0)
        return file

    def _spool(self, path: str) -> Identity:
        """Download a file into an anonymous temporary file; returns the identity of the file."""
        try:
            with ExitStack() as stack:
                file = stack.enter_context(tempfile.TemporaryFile())
                stream = stack.enter_context(self._stream(path))
                found = identity_of_all(self.size(path), _copied(stream, file))
                file.flush()
                stream.close()
                stack.pop_all()  # the file stays open until it is read
        except OSError as error:
            raise SourceError(
                f"{self._name(path)} needs {self.size(path) / 1e6:,.0f} MB in "
                f"{tempfile.gettempdir()} while it is converted: {error.strerror or error}. Free "
                "space there, or name another folder with TMPDIR."
            ) from error
        self._spooled[path] = file
        return found

    def identity(self, path: str) -> Identity:
        """Size and checksums of a file, see `identify`; computed once."""
        if path not in self._identities:
            self._identities[path] = self._identity(path)
        return self._identities[path]

    def _identity(self, path: str) -> Identity:
        size = self.size(path)
        if size > _SMALL and is_read_whole(path, size) and not _is_streamed(path):
            return self._spool(path)
        return identify(path, size, partial(self._span, path))

    def _span(self, path: str, start: int, end: int) -> bytes:
        if self.size(path) <= _SMALL:
            return self._keep(path)[start:end]
        return self._fetch(path, start, end)


def _copied(stream: _Stream, file: BinaryIO) -> Iterator[bytes]:
    """The blocks of a stream, each of which is also written to a file."""
    while block := stream.read(_READ):
        file.write(block)
        yield block


def _version(info: dict[str, Any]) -> Version:
    found = next((info[name] for name in _VERSIONS if info.get(name)), "")
    return int(info.get("size") or 0), str(found).strip('"')


def _is_streamed(path: str) -> bool:
    """Whether a large file is streamed, not saved: an unpacked NIfTI may not fit on the disk."""
    return path.endswith((".gz", ".nii"))


class _Stream(io.RawIOBase):
    """A file read sequentially in large ranges; the next ranges are fetched in advance.

    Parameters
    ----------
    fetch : callable
        Called with the start and end of a range, returns the bytes. Retries a failed request
        itself, so that ranges already read are not requested again.
    size : int
        Size of the file in bytes.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        super().__init__()
        starts = [0, *range(min(_HEAD, size), size, _BLOCK)]
        self._spans = deque(zip(starts, [*starts[1:], size], strict=True))
        self._fetch = fetch
        self._pool = ThreadPoolExecutor(_AHEAD)
        self._ahead: deque[Future[bytes]] = deque()
        self._start = self._at = 0  # position of the block in the file, and in the block
        self._block = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if self._at == len(self._block) and not self._next():
            return 0
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._block) - self._at)
        view[:count] = memoryview(self._block)[self._at : self._at + count]
        self._at += count
        return count

    def _next(self) -> bool:
        """Load the next block; False at the end of the file."""
        is_first = not self._block
        while self._spans and len(self._ahead) < (1 if is_first else _AHEAD):
            self._ahead.append(self._pool.submit(self._fetch, *self._spans.popleft()))
        if not self._ahead:
            return False
        self._start += len(self._block)
        self._block, self._at = self._ahead.popleft().result(), 0
        return len(self._block) > 0

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move within the current block; raises for a position outside the block."""
        inside = offset - self._start
        if whence != io.SEEK_SET or not 0 <= inside <= len(self._block):
            raise io.UnsupportedOperation("this file is read front to back")
        self._at = inside
        return offset

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        super().close()
