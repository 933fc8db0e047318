"""Compare files of a source with those that were converted, without reading much of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from laion_zarr import config
from laion_zarr.conversion.options import PROBLEMS
from laion_zarr.conversion.source.files import Identity, Source
from laion_zarr.conversion.source.identity import same_version
from laion_zarr.download.mirror import Mirror
from laion_zarr.errors import LaionZarrError

OTHER_SIZE, OTHER_CONTENT = "other size", "same size, other content"

_MD5 = re.compile("[0-9a-f]{32}")  # the ETag of an object that was uploaded in one piece


class Versions:
    """The files of a source, compared with identities that the store recorded.

    A local file is compared by size and checksum. Of a file at a URL, nothing but its size and its
    ETag are known, and the store records no ETag: the two are brought together by the data
    directory, if it holds the file that was converted, and recorded with which ETag it came.

    Parameters
    ----------
    source : Source
        The source, whose files have been listed.
    """

    def __init__(self, source: Source) -> None:
        self.uncompared: list[str] = []
        self._source = source
        self._downloads: Mirror | None = None
        self._local = source
        if source.local("") is None:
            with suppress(LaionZarrError, OSError):  # no data directory, or nothing recorded in it
                self._downloads = Mirror(config.get_data_dir())
                self._local = Source(str(self._downloads.root))

    def change(self, path: str, recorded: Identity) -> str | None:
        """How a file differs from the one that was converted; None if it does not, or is unknown.

        A file of the same size whose content was not compared is added to `uncompared`.
        """
        try:
            if self._source.size(path) != recorded["size"]:
                return OTHER_SIZE
            same = self._same_content(path, recorded)
        except PROBLEMS as error:
            return f"cannot be read: {error}"
        if same is None:
            self.uncompared.append(path)
        return OTHER_CONTENT if same is False else None

    def _same_content(self, path: str, recorded: Identity) -> bool | None:
        """Whether a file of the same size has the same content; None if that is not known."""
        if self._local is self._source:
            return _same_local(self._source, path, recorded)
        if self._downloads is None:
            return None
        had, has = self._downloads.version(path), self._source.etag(path)
        if had is None or has is None or not Path(self._local.full(path)).is_file():
            return None
        if not _same_local(self._local, path, recorded):
            return None  # another file than the one that was converted: its ETag proves nothing
        if had == has:
            return True
        return False if _MD5.fullmatch(had) and _MD5.fullmatch(has) else None


def _same_local(source: Source, path: str, recorded: Identity) -> bool:
    """Whether a local file is the one that was converted."""
    if source.size(path) != recorded["size"]:
        return False
    return same_version(recorded, source.identity(path))


def file_sources(sources: Mapping[str, Mapping[str, int]]) -> dict[str, Identity]:
    """Those sources of a stored part that are files; the others are parts, or lists of names."""
    return {name: dict(identity) for name, identity in sources.items() if "size" in identity}
