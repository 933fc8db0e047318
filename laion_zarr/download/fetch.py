"""Transfer of a list of files, used by every download: threads, retries, checksums.

A file is written under a temporary name that contains its version (an ETag or a checksum), so an
interrupted file is continued only with bytes of the same version. A complete file is renamed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from laion_zarr import _repr
from laion_zarr._words import as_size
from laion_zarr.download.mirror import Item, Mirror, opened, partial_of, remove_stale
from laion_zarr.errors import DownloadError, LaionZarrError
from laion_zarr.store.retry import PAUSES, Transient, Unreachable, pause_before

_BLOCK = 1 << 20
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, repr=False)
class Report:
    """Result of a download.

    Attributes
    ----------
    root : pathlib.Path
        The data directory.
    fetched, present : tuple of str
        Files that were downloaded, and files that were present already: paths below `root`.
    nbytes : int
        Number of bytes downloaded.
    """

    root: Path
    fetched: tuple[str, ...]
    present: tuple[str, ...]
    nbytes: int

    def __repr__(self) -> str:
        return (
            f"{len(self.fetched):,} files downloaded ({as_size(self.nbytes)}), "
            f"{len(self.present):,} already in {self.root}"
        )

    def _repr_html_(self) -> str:
        found = {
            "laion_zarr": "download.Report",
            "Downloaded": f"{_repr.some(self.fetched)}, {as_size(self.nbytes)}",
            "Already there": _repr.some(self.present),
            "Data directory": self.root,
            "Next": "laion_zarr.convert() takes it into the store",
        }
        return _repr.as_html(found)


class _Stopped(Exception):
    """The download was stopped by the user, or by a fatal error of another file."""


class _Hasher:
    """Checksum of a file while it is written, including the bytes that it holds at the start."""

    def __init__(self, item: Item, file: BinaryIO) -> None:
        self._expected = item.digest
        self._digest = hashlib.new(item.digest[0], usedforsecurity=False) if item.digest else None
        file.seek(0)
        while self._digest and (data := file.read(_BLOCK)):
            self._digest.update(data)

    def update(self, data: bytes) -> None:
        if self._digest:
            self._digest.update(data)

    def check(self) -> None:
        if self._digest and self._expected and self._digest.hexdigest() != self._expected[1]:
            raise LaionZarrError(
                f"expected {self._expected[0]} {self._expected[1]}, found "
                f"{self._digest.hexdigest()}: damaged on the way, and thrown away"
            )


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _write(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:  # an unbuffered file may write only a part of the data
        view = view[file.write(view) :]


class _Run:
    """State of one download, shared by its threads."""

    def __init__(self, mirror: Mirror, bar: tqdm[Any]) -> None:
        self.mirror = mirror
        self.bar = bar
        self.nbytes = 0
        self.stop = threading.Event()
        self._lock = threading.Lock()

    def _count(self, n: int) -> None:
        with self._lock:
            self.nbytes += n
            self.bar.update(n)

    def fetch(self, item: Item) -> None:
        """Fetch one file; it gets its final name only when it is complete and checked."""
        if self.stop.is_set():
            raise _Stopped
        target = self.mirror.target(item.key)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = partial_of(target, item)
        remove_stale(target, partial)
        with opened(partial) as file:
            try:
                self._fill(file, item)
            except BaseException:
                if not _size(file):  # no bytes to continue from later
                    partial.unlink(missing_ok=True)
                raise
            partial.replace(target)
        self.mirror.keep(item)

    def _fill(self, file: BinaryIO, item: Item) -> None:
        if _size(file) > item.size:
            file.truncate(0)
        hasher = _Hasher(item, file)
        failures = 0
        while (before := _size(file)) < item.size:
            try:
                self._append(file, hasher, item, before)
            except Transient:
                failures = 0 if _size(file) > before else failures + 1
                if failures > len(PAUSES):
                    raise
                if self.stop.wait(pause_before(max(failures - 1, 0))):
                    raise _Stopped from None
        try:
            hasher.check()
        except LaionZarrError:
            file.truncate(0)
            raise

    def _append(self, file: BinaryIO, hasher: _Hasher, item: Item, start: int) -> None:
        position = start
        blocks = item.blocks(start)
        try:
            for data in blocks:
                if self.stop.is_set():
                    raise _Stopped
                if (position := position + len(data)) > item.size:
                    file.truncate(0)
                    raise LaionZarrError(f"more than the {item.size:,} bytes it should have came")
                _write(file, data)
                hasher.update(data)
                self._count(len(data))
        finally:
            blocks.close()  # type: ignore[attr-defined]
        if position < item.size:
            raise Transient(f"cut off after {position:,} of {item.size:,} bytes")


def _check_space(root: Path, missing: Sequence[Item], mirror: Mirror) -> int:
    """Bytes of `missing` already in partial files; raises if the disk has no room for the rest."""
    begun = 0
    for item in missing:
        partial = partial_of(mirror.target(item.key), item)
        begun += min(partial.stat().st_size, item.size) if partial.is_file() else 0
    needed, free = sum(item.size for item in missing) - begun, shutil.disk_usage(root).free
    if needed > free:
        raise LaionZarrError(
            f"{as_size(needed)} are to be downloaded to {root}, and {as_size(free)} are free "
            "there. Make room, narrow the download (--ses, --desc, --suffix, …), or name another "
            "data directory with 'laion-zarr config --data-dir DIR'."
        )
    return begun


def _is_fatal(error: BaseException) -> bool:
    """Whether an error would stop every other file, too: disk full, or server unreachable."""
    disk_is_full = isinstance(error, OSError) and error.errno in _DISK_FULL
    return disk_is_full or isinstance(error, Unreachable)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _collect(
    run: _Run, futures: dict[Future[None], Item], failed: dict[str, str]
) -> tuple[list[str], int]:
    """Wait for all files; return the keys of fetched files and the number of files not tried."""
    fetched: list[str] = []
    untried, waiting = 0, set(futures)
    while waiting:
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for future in done:
            error = future.exception()
            if error is None:
                fetched.append(futures[future].key)
            elif isinstance(error, _Stopped):
                untried += 1
            elif isinstance(error, LaionZarrError | OSError):
                failed[futures[future].key] = _reason(error)
                if _is_fatal(error):
                    run.stop.set()
            else:
                raise error
            run.bar.set_postfix_str(f"{len(fetched)}/{len(futures)} files", refresh=False)
    return fetched, untried


def _fetch_all(
    mirror: Mirror, missing: Sequence[Item], n_jobs: int, bar: tqdm[Any], failed: dict[str, str]
) -> tuple[list[str], int, int]:
    run = _Run(mirror, bar)
    with ThreadPoolExecutor(n_jobs) as pool:
        try:
            futures = {pool.submit(run.fetch, item): item for item in missing}
            fetched, untried = _collect(run, futures, failed)
        except BaseException:  # also Ctrl-C: threads stop at their next block
            run.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return fetched, untried, run.nbytes


def fetch(root: Path, items: Sequence[Item], n_jobs: int = 1, progress: bool = True) -> Report:
    """Fetch every item whose current version is not yet in the data directory.

    Parameters
    ----------
    root : pathlib.Path
        The data directory, which must exist.
    items : sequence of Item
        Files to fetch; a file that is present in the item's version is not fetched again.
    n_jobs : int, optional
        Number of threads.
    progress : bool, optional
        Whether to show a progress bar.

    Raises
    ------
    DownloadError
        If some files could not be fetched; lists them and how many were not tried. All files that
        were fetched are kept.
    """
    mirror = Mirror(root)
    failed: dict[str, str] = {}
    present: list[Item] = []
    missing: list[Item] = []
    for item in items:
        try:
            (present if mirror.holds(item) else missing).append(item)
        except (LaionZarrError, OSError) as error:
            failed[item.key] = _reason(error)
    fetched: list[str] = []
    untried = nbytes = 0
    if missing:
        begun = _check_space(root, missing, mirror)
        total = sum(item.size for item in missing)
        with tqdm(
            *(), total=total, initial=begun, unit="B", unit_scale=True, disable=not progress
        ) as bar:
            fetched, untried, nbytes = _fetch_all(mirror, missing, n_jobs, bar, failed)
    if failed:
        raise DownloadError(failed, untried, len(items))
    return Report(root, tuple(sorted(fetched)), tuple(item.key for item in present), nbytes)
