"""Files of the release, in a folder or at a URL: which are there, which version, their bytes."""

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
    """A mirror of the release: a local folder or an fsspec URL.

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
        """Path of a file as a user would write it."""
        return f"{self.root.rstrip('/')}/{path}"

    def listing(self, subjects: Iterable[str] | None = None, stimuli: bool = True) -> list[str]:
        """Relative paths of all files that the converter may read.

        Of a URL only what is needed is listed: some `subjects`, and the `stimuli` or not.
        """
        if self._remote is not None:
            return self._remote.listing(subjects, stimuli)
        fs = fsspec.filesystem("file")
        if not fs.isdir(self.root):
            raise DataNotDownloadedError(
                f"{self.root} is not a folder. Name the one that holds 'derivatives/' with "
                "--source, or set it with 'laion-zarr config --data-dir DIR'."
            )
        tops = (release.GLM, release.ROIS, release.ANATOMY, release.STIMULI)
        folders = [f"{self.root}/{top}" for top in tops]
        names = [name for folder in folders if fs.isdir(folder) for name in fs.find(folder)]
        return [name[len(self.root) :].lstrip("/") for name in names]

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """Open a file as it lies, without unpacking."""
        if self._remote is not None:
            with self._remote.open(path) as file, reading(self.full(path)):
                yield file
            return
        with reading(self.full(path)), (Path(self.root) / path).open("rb") as file:
            yield file

    def local(self, path: str) -> Path | None:
        """The file on disk; None where the source is no local folder."""
        return None if self._remote is not None else Path(self.root) / path

    def read(self, path: str) -> bytes:
        """Read a whole small file."""
        with self.open(path) as file:
            return file.read()

    def size(self, path: str) -> int:
        """Bytes of a file as it lies."""
        if self._remote is not None:
            return self._remote.size(path)
        with reading(self.full(path)):
            return (Path(self.root) / path).stat().st_size

    def look_ahead(self, paths: Iterable[str]) -> None:
        """Say which files will be looked at: at a URL they are asked for together."""
        if self._remote is not None:
            self._remote.look_ahead(paths)

    def identity(self, path: str) -> Identity:
        """What tells one version of a file from another.

        Size, and the CRC-32 of the content: from the trailer of a gzip, which reading the file
        proves, else computed.
        """
        size = self.size(path)
        if self._remote is not None:
            return {"size": size, "crc32": self._remote.crc32(path)}
        with self.open(path) as file:
            return {"size": size, "crc32": content_crc32(file, path, size)}

    def check_unchanged(self, identities: Mapping[str, Identity]) -> None:
        """Refuse files that are not what they were when they were looked at."""
        if self._remote is not None:
            changed = self._remote.changed(identities)
        else:
            changed = [path for path, was in identities.items() if self.identity(path) != was]
        for path in changed:
            raise damaged(self.full(path), "another one", "the file that it was at the start")

    def sidecar(self, path: str, names: frozenset[str]) -> str | None:
        """BIDS sidecar of a file, if it is there."""
        found = release.sidecar(path)
        return found if found in names else None

    def json(self, path: str) -> dict[str, Any]:
        """Parse a sidecar."""
        try:
            # NaN is no JSON, though some write it: nothing, then.
            parsed = json.loads(self.read(path), parse_constant=lambda _: None)
        except ValueError as error:
            raise damaged(self.full(path), f"something else ({error})", "JSON") from error
        if not isinstance(parsed, dict):
            raise damaged(self.full(path), type(parsed).__name__, "a JSON object")
        return parsed

    @contextmanager
    def unpacked(self, path: str) -> Iterator[BinaryIO | igzip.IGzipFile]:
        """Open a file, inflating a gzip on the way."""
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
    """Open a mirror by its folder or URL."""
    text = str(source)
    if is_remote(text):
        return Source(text)
    return Source(str(Path(text.removeprefix("file://")).expanduser().absolute()))
