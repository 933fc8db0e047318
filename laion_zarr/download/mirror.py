"""The data directory as downloads see it: where a file goes, and which version of it is there."""

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
        Bytes.
    version : str
        What tells its content from another: ETag or checksum.
    digest : tuple of (str, str) or None
        Algorithm and hexadecimal checksum, where one is known.
    blocks : callable
        Bytes from a position on; raises `Transient` where another try may help.
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
    """The data directory: where files go, and which version of each is there."""

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
                continue  # cut off by a crash: that file is looked at again

    def _lines(self) -> list[str]:
        try:
            return self._record.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []

    def target(self, key: str) -> Path:
        """Where a file goes; refused where that is not below the data directory."""
        parts = key.split("/")
        # A backslash separates folders elsewhere; control characters have no place in a name.
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
        """Whether the file is there in this version."""
        target = self.target(item.key)
        if not target.is_file() or target.stat().st_size != item.size:
            return False
        known = self._versions.get(item.key)
        if known == item.version:
            return True
        # From another tool, or from another place, which names versions differently.
        if item.digest is None:
            found = known is None  # nothing but the size can be compared
        else:
            found = _hash(target, item.digest[0]) == item.digest[1]
        if found:
            self.keep(item)
        return found

    def keep(self, item: Item) -> None:
        """Remember the version of a file that is whole."""
        line = json.dumps({"key": item.key, "version": item.version, "size": item.size})
        with self._lock:
            self._record.parent.mkdir(exist_ok=True)
            # One write at the end of the file: whole lines, also of two downloads at once. What a
            # crash cut off must not run into it, hence the newline before.
            with self._record.open("ab", buffering=0) as file:
                file.write(f"\n{line}\n".encode())
            self._versions[item.key] = item.version


def partial_of(target: Path, item: Item) -> Path:
    """Temporary name of a file: it holds the version, so bytes of two are never mixed."""
    version = re.sub(r"[^A-Za-z0-9-]", "", item.version)[:64]
    return target.with_name(f".{target.name}.{version}.part")


def remove_stale(target: Path, partial: Path) -> None:
    """Remove what is left of downloads of other versions."""
    for path in target.parent.iterdir():
        name = path.name
        if name.startswith(f".{target.name}.") and name.endswith(".part") and path != partial:
            path.unlink(missing_ok=True)


@contextmanager
def opened(partial: Path) -> Iterator[BinaryIO]:
    """The partial file, for this download alone."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    with os.fdopen(os.open(partial, flags, 0o666), "r+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LaionZarrError(
                "another download is at it. Wait for that one, then run the same again"
            ) from None
        except OSError:
            pass  # a file system without locks
        yield file
