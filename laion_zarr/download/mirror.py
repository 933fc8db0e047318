"""The data directory for downloads: path of each file, and the version that is present."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from laion_zarr.errors import LaionZarrError

RECORD = PurePosixPath(".laion-zarr/objects.jsonl")


@dataclass(frozen=True)
class Item:
    """One file to fetch.

    Attributes
    ----------
    key : str
        Path below the data directory.
    size : int
        Size of the file in bytes.
    version : str
        ETag or checksum that identifies the content of the file.
    digest : tuple of (str, str) or None
        Algorithm and hexadecimal checksum; None if no checksum is known.
    blocks : callable
        Takes a position and yields the bytes from there; raises `Transient` if a retry may succeed.
    """

    key: str
    size: int
    version: str
    digest: tuple[str, str] | None
    blocks: Callable[[int], Iterator[bytes]] = field(repr=False)


def _hash(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(
            file, lambda: hashlib.new(algorithm, usedforsecurity=False)
        ).hexdigest()


class Mirror:
    """The data directory, with a record of the version of each file in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._real = root.resolve()
        self._record = self.target(str(RECORD))
        self._lock = threading.Lock()
        self._versions: dict[str, str] = {}
        for line in self._lines():
            try:
                entry = json.loads(line)
                self._versions[entry["key"]] = entry["version"]
            except (ValueError, TypeError, KeyError):
                continue  # line cut off by a crash: the version of that file is checked again

    def _lines(self) -> list[str]:
        try:
            return self._record.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []

    def target(self, key: str) -> Path:
        """Path of a file; raises if the path is not below the data directory."""
        parts = key.split("/")
        # Backslashes, which separate folders on Windows, and control characters are refused, too.
        if not all(parts) or {".", ".."} & set(parts) or re.search(r"[\\\x00-\x1f]", key):
            raise LaionZarrError("its name would lead out of the data directory: refused")
        target = self.root.joinpath(*parts)
        if not target.parent.resolve().is_relative_to(self._real):
            raise LaionZarrError(
                f"{target.parent} leads out of the data directory by a symbolic link: refused. "
                "Name the folder behind the link as the data directory, or remove the link."
            )
        return target

    def holds(self, item: Item) -> bool:
        """Whether the file of an item is present in the item's version."""
        target = self.target(item.key)
        if not target.is_file() or target.stat().st_size != item.size:
            return False
        known = self._versions.get(item.key)
        if known == item.version:
            return True
        # Downloaded by another tool, or from another server, which names versions differently.
        if item.digest is None:
            found = known is None  # only the size can be compared
        else:
            found = _hash(target, item.digest[0]) == item.digest[1]
        if found:
            self.keep(item)
        return found

    def version(self, key: str) -> str | None:
        """Version (ETag) in which a file was downloaded; None if that is not known."""
        return self._versions.get(key)

    def keep(self, item: Item) -> None:
        """Record the version of a complete file."""
        line = json.dumps({"key": item.key, "version": item.version, "size": item.size})
        with self._lock:
            self._record.parent.mkdir(exist_ok=True)
            # A single append keeps lines whole, also if two downloads write at once. The newline
            # before separates the line from one that a crash may have cut off.
            with self._record.open("ab", buffering=0) as file:
                file.write(f"\n{line}\n".encode())
            self._versions[item.key] = item.version


def partial_of(target: Path, item: Item) -> Path:
    """Temporary path of a file, with its version, so that bytes of two versions never mix."""
    version = re.sub(r"[^A-Za-z0-9-]", "", item.version)[:64]
    return target.with_name(f".{target.name}.{version}.part")


def remove_stale(target: Path, partial: Path) -> None:
    """Remove partial files of other versions of a file."""
    for path in target.parent.iterdir():
        name = path.name
        if name.startswith(f".{target.name}.") and name.endswith(".part") and path != partial:
            path.unlink(missing_ok=True)


@contextmanager
def opened(partial: Path) -> Iterator[BinaryIO]:
    """Open a partial file and lock it, so that no other download writes to it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    with os.fdopen(os.open(partial, flags, 0o666), "r+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LaionZarrError(
                "another download is at it. Wait for that one, then run the same again"
            ) from None
        except OSError:
            pass  # the file system does not support locks
        yield file
