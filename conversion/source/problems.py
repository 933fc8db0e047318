"""Error messages about source files: which file, what was expected, and what was found."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from laion_zarr.errors import SourceError
from laion_zarr.store.causes import cause_of

FOLDER = "a folder"


def damaged(path: str, found: str, expected: str) -> SourceError:
    """Make the error for a source file whose content is not as expected."""
    mend = "Run" if "://" in path else "Delete it, download it again and run"
    return SourceError(
        f"{path}: expected {expected}, found {found}. {mend} the same command: what is converted "
        "already is kept."
    )


def changed(path: str) -> SourceError:
    """Make the error for a file that is another one than when the work was planned."""
    return SourceError(
        f"{path}: expected the file that it was at the start, found another one: it was changed "
        "meanwhile. Name the same command again when nothing writes there: what is converted "
        "already is kept."
    )


def unreadable(path: str, error: OSError, what: str = "a file") -> SourceError:
    """Make the error for a file, whole or not, that the operating system does not let us read."""
    if isinstance(error, FileNotFoundError):
        return _not_there(path, what)
    if isinstance(error, NotADirectoryError) and what == FOLDER:
        return SourceError(
            f"{path}: expected a folder, found a file. Move it away, or download the folder again, "
            "then run the same command: what is converted already is kept."
        )
    return SourceError(
        f"{path} cannot be read: {cause_of(error)}, then run the same command: what is converted "
        "already is kept."
    )


def _not_there(path: str, what: str) -> SourceError:
    there = "it vanished"
    if Path(path).is_symlink():
        there = f"it is a dangling link, to {Path(path).readlink()}"
    return SourceError(
        f"{path}: expected {what}, found nothing: {there}. Mount the disk that it lies on, or "
        "download it again, then run the same command: what is converted already is kept."
    )


@contextmanager
def opening(path: str) -> Iterator[None]:
    """Turn errors of the operating system on a file into a `SourceError` that says the cause."""
    try:
        yield
    except OSError as error:
        raise unreadable(path, error) from error


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn errors of libraries on a damaged file into a `SourceError` that names the file."""
    try:
        yield
    except SourceError:
        raise
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:  # igzip raises these too
        raise damaged(path, f"a damaged or cut-off one ({error})", "a whole gzip file") from error
    except (HeaderDataError, WrapStructError, ImageFileError) as error:
        raise damaged(path, f"another header ({error})", "a NIfTI file") from error


class _NamedFile(io.RawIOBase):
    """A local file, open for reading, whose errors are `SourceError`s that name it.

    What else fails while a file is open, such as writing elsewhere, is not blamed on the file.
    """

    def __init__(self, path: str, file: io.RawIOBase) -> None:
        super().__init__()
        self._path = path
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        with opening(self._path):
            return self._file.readinto(buffer)

    def readall(self) -> bytes:
        with opening(self._path):
            return self._file.readall()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        with opening(self._path):
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def open_named(path: str) -> io.RawIOBase:
    """Open a local file for reading; errors of the operating system will be `SourceError`s."""
    with opening(path):
        file = Path(path).open("rb", buffering=0)  # noqa: SIM115
    return _NamedFile(path, file)


def describe(head: bytes) -> str:
    """Describe the first bytes of a file that is not in the expected format."""
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page (an error page saved by a downloader?)"
    return f"bytes {head[:8]!r}" if head else "an empty file"
