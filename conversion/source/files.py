"""Files of the release in a folder or at a URL: listing, identity (size and CRC-32), content."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from isal import igzip

from laion_zarr import _release as release
from laion_zarr.conversion.source.problems import damaged, describe, reading
from laion_zarr.conversion.source.remote import Remote, content_crc32
from laion_zarr.errors import DataNotDownloadedError
from laion_zarr.store.remote import is_remote

_GZIP_MAGIC = b"\x1f\x8b"

Identity = dict[str, int]  # {"size": bytes, "crc32": CRC-32 of the unpacked or plain content}


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

    def listing(self, subjects: Iterable[str] | None = None, stimuli: bool = True) -> list[str]:
        """Relative paths of all files that the converter may read.

        At a URL, only the files of `subjects` (None for all subjects) and, if `stimuli` is True,
        those of the stimuli are listed. A local folder is always listed completely.
        """
        if self._remote is not None:
            return self._remote.listing(subjects, stimuli)
        fs = fsspec.filesystem("file")
        if not fs.isdir(self.root):
            raise DataNotDownloadedError(
                f"{self.root} is not a folder. Name the one that holds 'derivatives/' with "
                "--source, or set it with 'laion-zarr config --data-dir DIR'."
            )
        raw = sorted(path.name for path in Path(self.root).glob("sub-*"))
        tops = (*release.DERIVATIVES, release.STIMULI, *raw)
        folders = [f"{self.root}/{top}" for top in tops]
        names = [name for folder in folders if fs.isdir(folder) for name in fs.find(folder)]
        return [name[len(self.root) :].lstrip("/") for name in names]

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """Open a file without decompressing it."""
        if self._remote is not None:
            with self._remote.open(path) as file, reading(self.full(path)):
                yield file
            return
        with reading(self.full(path)), (Path(self.root) / path).open("rb") as file:
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
        with reading(self.full(path)):
            return (Path(self.root) / path).stat().st_size

    def look_ahead(self, paths: Iterable[str]) -> None:
        """Prepare for `identity` of these files: at a URL, they are requested concurrently."""
        if self._remote is not None:
            self._remote.look_ahead(paths)

    def identity(self, path: str) -> Identity:
        """Size and CRC-32, by which a version of a file is recognized.

        The size is that of the file, the CRC-32 that of the decompressed content: taken from the
        trailer of a gzip file (reading the whole file verifies it), else computed.
        """
        size = self.size(path)
        if self._remote is not None:
            return {"size": size, "crc32": self._remote.crc32(path)}
        with self.open(path) as file:
            return {"size": size, "crc32": content_crc32(file, path, size)}

    def check_unchanged(self, identities: Mapping[str, Identity]) -> None:
        """Raise `SourceError` if a file has changed since its identity was taken."""
        if self._remote is not None:
            changed = self._remote.changed(identities)
        else:
            changed = [path for path, was in identities.items() if self.identity(path) != was]
        for path in changed:
            raise damaged(self.full(path), "another one", "the file that it was at the start")

    def sidecar(self, path: str, names: frozenset[str]) -> str | None:
        """Path of the BIDS sidecar of a file; None if the sidecar is not in `names`."""
        found = release.sidecar(path)
        return found if found in names else None

    def json(self, path: str) -> dict[str, Any]:
        """Parse a JSON sidecar."""
        try:
            # NaN and Infinity are not valid JSON, but some programs write them: read as None.
            parsed = json.loads(self.read(path), parse_constant=lambda _: None)
        except ValueError as error:
            raise damaged(self.full(path), f"something else ({error})", "JSON") from error
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


def open_source(source: str | Path) -> Source:
    """Open the mirror in a folder or at a URL."""
    text = str(source)
    if is_remote(text):
        return Source(text)
    return Source(str(Path(text.removeprefix("file://")).expanduser().absolute()))
