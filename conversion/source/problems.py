"""Error messages about source files: which file, what was expected, and what was found."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from laion_zarr.errors import SourceError


def damaged(path: str, found: str, expected: str) -> SourceError:
    """Make the error for a source file whose content is not as expected."""
    mend = "Run" if "://" in path else "Delete it, download it again and run"
    return SourceError(
        f"{path}: expected {expected}, found {found}. {mend} the same command: what is converted "
        "already is kept."
    )


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn errors of libraries on a damaged file into a `SourceError` that names the file."""
    try:
        yield
    except SourceError:
        raise
    except FileNotFoundError as error:
        raise damaged(path, "nothing (it vanished, or is a dangling link)", "a file") from error
    except PermissionError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}. Mend its permissions.") from (
            error
        )
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:  # igzip raises these too
        raise damaged(path, f"a damaged or cut-off one ({error})", "a whole gzip file") from error
    except (HeaderDataError, WrapStructError, ImageFileError) as error:
        raise damaged(path, f"another header ({error})", "a NIfTI file") from error


def describe(head: bytes) -> str:
    """Describe the first bytes of a file that is not in the expected format."""
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page (an error page saved by a downloader?)"
    return f"bytes {head[:8]!r}" if head else "an empty file"
