"""Files of the release in a folder or at a URL: listing, identity (size, checksums), content."""

from __future__ import annotations

import io
import logging
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import fsspec
from isal import igzip

from laion_zarr import _release as release
from laion_zarr.conversion.source.identity import Identity, identify
from laion_zarr.conversion.source.json_text import parse_json
from laion_zarr.conversion.source.problems import (
    changed,
    damaged,
    describe,
    open_named,
    opening,
    reading,
)
from laion_zarr.conversion.source.remote import Remote
from laion_zarr.errors import DataNotDownloadedError, SourceError
from laion_zarr.store.causes import cause_of
from laion_zarr.store.remote import is_remote

__all__ = ["Identity", "Source", "open_source"]

log = logging.getLogger("laion_zarr")

_GZIP_MAGIC = b"\x1f\x8b"
_BUFFER = 256 << 10  # bytes read at once of a local file


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
    ) -> list[str]:
        """Relative paths of all files in some folders of the release.

        At a URL, only the files of `subjects` (None for all subjects) and those of the stimuli are
        listed; in a local folder, those of all subjects.
        """
        if self._remote is not None:
            return self._remote.listing(subjects, folders)
        fs = fsspec.filesystem("file")
        self._check_folder()
        there = [path.name for path in Path(self.root).iterdir()]
        tops = [f"{self.root}/{top}" for top in release.folders_to_list(folders, None, there)]
        names = [name for folder in tops if fs.isdir(folder) for name in fs.find(folder)]
        inside = (name[len(self.root) :].lstrip("/") for name in names)
        return [name for name in inside if _is_text(name)]

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
        return sorted(path.name for path in Path(self.root, parent).glob("*") if path.is_dir())

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
