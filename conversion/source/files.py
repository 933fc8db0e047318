"""Files of the release in a folder or at a URL: listing, identity (size, checksums), content."""

from __future__ import annotations

import errno
import io
import logging
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from isal import igzip

from laion_zarr import _release as release
from laion_zarr.conversion.source.identity import Identity, identify
from laion_zarr.conversion.source.json_text import parse_json
from laion_zarr.conversion.source.problems import (
    FOLDER,
    changed,
    damaged,
    describe,
    open_named,
    opening,
    reading,
    unreadable,
)
from laion_zarr.conversion.source.remote import Remote
from laion_zarr.errors import DataNotDownloadedError, SourceError
from laion_zarr.store.causes import cause_of
from laion_zarr.store.remote import is_remote

__all__ = ["Identity", "Listing", "Source", "open_source"]

log = logging.getLogger("laion_zarr")

_GZIP_MAGIC = b"\x1f\x8b"
_BUFFER = 256 << 10  # bytes read at once of a local file


@dataclass(frozen=True)
class Listing:
    """Files of a mirror, and what stands beside them: relative paths.

    Attributes
    ----------
    names : frozenset of str
        The files.
    empty : tuple of str
        Folders without a file in them or below, where data are expected.
    resembling : tuple of str
        Folders that were not listed, and are called similarly to one that was.
    unread : mapping of str to SourceError
        Folders that could not be listed, and why.
    """

    names: frozenset[str]
    empty: tuple[str, ...] = ()
    resembling: tuple[str, ...] = ()
    unread: Mapping[str, SourceError] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A mirror (copy) of the release: a local folder or an fsspec URL.

    Attributes
    ----------
    root : str
        Local path or URL of the data directory.
    """

    root: str

    @cached_property
    def _remote(self) -> Remote | None:
        return Remote(self.root) if "://" in self.root else None

    def full(self, path: str) -> str:
        """Full path or URL of a file, as a user would write it."""
        return f"{self.root.rstrip('/')}/{path}"

    def listing(
        self,
        subjects: Collection[str] | None = None,
        folders: Iterable[PurePosixPath] = release.FOLDERS,
    ) -> Listing:
        """All files in some folders of the release; links to folders are followed.

        At a URL, only the files of `subjects` (None for all subjects) and those of the stimuli are
        listed; in a local folder, those of all subjects.
        """
        if self._remote is not None:
            return Listing(frozenset(self._remote.listing(subjects, folders)))
        self._check_folder()
        return _Walk(self.root).run(list(folders))

    def _check_folder(self) -> None:
        """Raise unless the root is a folder; a folder out of reach is not said to be none."""
        try:
            if stat.S_ISDIR(Path(self.root).stat().st_mode):
                return
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise SourceError(f"{self.root} cannot be read: {cause_of(error)}.") from error
        raise DataNotDownloadedError(
            f"{self.root} is not a folder. Name the one that holds 'derivatives/' with "
            "--source, or set it with 'laion-zarr config --data-dir DIR'."
        )

    def folders(self, parent: PurePosixPath) -> list[str]:
        """Names of the folders directly in a folder, sorted; none if there is no such folder."""
        if self._remote is not None:
            return self._remote.folders(str(parent))
        return _Walk(self.root).folders(parent)

    def etag(self, path: str) -> str | None:
        """ETag of a listed file at a URL, without quotes; None if there is none."""
        return None if self._remote is None else self._remote.etag(path)

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """Open a file without decompressing it."""
        if self._remote is not None:
            with self._remote.open(path) as file, reading(self.full(path)):
                yield file
            return
        raw = open_named(self.full(path))
        with io.BufferedReader(raw, _BUFFER) as file, reading(self.full(path)):
            yield file

    def local(self, path: str) -> Path | None:
        """Path of a file on the local disk; None if the source is a URL."""
        return None if self._remote is not None else Path(self.root) / path

    def read(self, path: str) -> bytes:
        """Read a whole small file."""
        with self.open(path) as file:
            return file.read()

    def size(self, path: str) -> int:
        """Size of a file in bytes, compressed if the file is."""
        if self._remote is not None:
            return self._remote.size(path)
        with opening(self.full(path)):
            return (Path(self.root) / path).stat().st_size

    def look_ahead(self, paths: Iterable[str]) -> None:
        """Prepare for `identity` of these files: at a URL, they are requested concurrently."""
        if self._remote is not None:
            self._remote.look_ahead(paths)

    def identity(self, path: str) -> Identity:
        """Size and checksums, by which a version of a file is recognized, see `identify`."""
        if self._remote is not None:
            return self._remote.identity(path)
        with open_named(self.full(path)) as file:

            def read(start: int, end: int) -> bytes:
                file.seek(start)
                parts = []
                while start < end and (part := file.read(end - start)):
                    parts.append(part)
                    start += len(part)
                return b"".join(parts)

            return identify(path, self.size(path), read)

    def check_unchanged(self, identities: Mapping[str, Identity]) -> None:
        """Raise `SourceError` if a file has changed since its identity was taken."""
        if self._remote is not None:
            others = self._remote.changed(identities)
        else:
            others = [path for path, was in identities.items() if self.identity(path) != was]
        for path in others:
            raise changed(self.full(path))

    def sidecar(self, path: str, names: frozenset[str]) -> str | None:
        """Path of the BIDS sidecar of a file; None if the sidecar is not in `names`."""
        found = release.sidecar(path)
        return found if found in names else None

    def json(self, path: str) -> dict[str, Any]:
        """Parse a JSON sidecar."""
        parsed = parse_json(self.full(path), self.read(path))
        if not isinstance(parsed, dict):
            raise damaged(self.full(path), type(parsed).__name__, "a JSON object")
        return parsed

    @contextmanager
    def unpacked(self, path: str) -> Iterator[BinaryIO | igzip.IGzipFile]:
        """Open a file; a gzip file is decompressed while it is read."""
        with self.open(path) as raw:
            if not path.endswith(".gz"):
                yield raw
                return
            magic = raw.read(2)
            raw.seek(0)
            if magic != _GZIP_MAGIC:
                raise damaged(self.full(path), describe(raw.read(64)), "a gzip file")
            with igzip.IGzipFile(fileobj=raw, mode="rb") as file:
                yield file


class _Walk:
    """Lists folders below a local root; follows links to folders, where data are expected."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._names: list[str] = []
        self._empty: list[str] = []
        self._unread: dict[str, SourceError] = {}

    def run(self, folders: Sequence[PurePosixPath]) -> Listing:
        """List the folders of the release that are there, and what resembles them."""
        there = self.folders(release.RAW)
        resembling = release.namesakes(folders, release.RAW, there)
        for top in release.folders_to_list(folders, None, there):
            self._top(top)
        for parent in {top.parent for top in folders} - {release.RAW}:
            with suppress(SourceError):  # what is read of it may be listed all the same
                resembling += release.namesakes(folders, parent, self.folders(parent))
        names = frozenset(self._names)
        return Listing(names, tuple(self._empty), tuple(sorted(resembling)), self._unread)

    def folders(self, parent: PurePosixPath) -> list[str]:
        """Names of the folders in a folder, and of links that may lead to one; sorted."""
        try:
            with os.scandir(self._full(str(parent))) as entries:
                return sorted(e.name for e in entries if e.is_symlink() or e.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise unreadable(self._full(str(parent)), error, FOLDER) from error

    def _full(self, path: str) -> str:
        return str(Path(self._root, path))

    def _top(self, top: PurePosixPath) -> None:
        """List a folder of the release; of the folders that lead to it, the first fault counts."""
        for folder in (*reversed(top.parents), top):
            try:
                self._enter(str(folder))
            except FileNotFoundError as error:
                if Path(self._full(str(folder))).is_symlink():
                    self._fail(str(folder), error)
                return
            except OSError as error:
                self._fail(str(folder), error)
                return
        if (nothing := self._list(str(top), ())) is not None:
            self._empty.append(nothing)

    def _enter(self, folder: str) -> os.stat_result:
        """Look into a folder: raises also if it is a file."""
        return os.stat(f"{self._full(folder)}/.")  # noqa: PTH116  pathlib drops the dot

    def _fail(self, path: str, error: OSError) -> None:
        self._unread[path] = unreadable(self._full(path), error, FOLDER)

    def _list(self, folder: str, above: tuple[tuple[int, int], ...]) -> str | None:
        """List a folder and those below it; return which is empty, None if there are files."""
        try:
            about = self._enter(folder)
            if (about.st_dev, about.st_ino) in above:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            with os.scandir(self._full(folder)) as found:
                visible = (entry for entry in found if not entry.name.startswith("."))
                entries = sorted(visible, key=lambda entry: entry.name)
        except OSError as error:
            self._fail(folder, error)
            return None
        chain = (*above, (about.st_dev, about.st_ino))
        anything, empty = False, []
        for entry in entries:
            path = f"{folder}/{entry.name}"
            is_folder = _is_text(path) and self._is_folder(entry, path)
            nothing = self._list(path, chain) if is_folder else None
            if nothing is None:
                anything = True
            elif release.is_like_folder(path):
                empty.append(nothing)
        if anything:
            self._empty += empty
            return None
        return empty[0] if len(empty) == 1 else folder

    def _is_folder(self, entry: os.DirEntry[str], path: str) -> bool:
        """Whether an entry is to be listed as a folder; if it is a file, keep its name."""
        link = entry.is_symlink()
        try:
            if entry.is_dir():
                return not link or release.is_like_folder(path)
            if release.is_only_folder(path):
                self._enter(path)
        except OSError as error:
            if release.is_only_folder(path):
                self._fail(path, error)
                return False
        self._names.append(path)
        return False


def _is_text(name: str) -> bool:
    """Whether a file name is UTF-8: nothing can be named after any other; a warning says so."""
    try:
        name.encode()
    except UnicodeEncodeError:
        log.warning("%a is left out: its name is not UTF-8. Rename it.", name)
        return False
    return True


def open_source(source: str | Path) -> Source:
    """Open the mirror in a folder or at a URL."""
    text = str(source)
    if is_remote(text):
        return Source(text)
    return Source(str(Path(text.removeprefix("file://")).expanduser().absolute()))
