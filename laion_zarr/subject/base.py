"""Base class of all parts of `Subject`: the open store, and selections from it."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pandas as pd

from laion_zarr.arrays.lazy import SubjectHandle
from laion_zarr.arrays.query import Query
from laion_zarr.errors import StoreError, UnknownNameError
from laion_zarr.store.schema import VOXELS_PART

_TRIES = 4


class SubjectBase:
    """The open store of one subject, and the query that selects trials and voxels from it."""

    def __init__(self, handle: SubjectHandle) -> None:
        self._handle = handle
        _ = handle.stored.part(VOXELS_PART)

    def __getstate__(self) -> dict[str, SubjectHandle]:
        # Labels and masks (megabytes) are not pickled: the receiving process reads them again.
        return {"_handle": self._handle}

    @property
    def subject_id(self) -> str:
        """Id of the subject, such as ``"sub-01"``."""
        return self._handle.subject

    def sources(self) -> pd.DataFrame:
        """Source files of the release that the parts of this subject were made from.

        Returns
        -------
        pandas.DataFrame
            One row per part and file, sorted by both: ``part``; ``file``, its path in the release;
            ``size`` in bytes; ``checksum``, CRC-32 in hex: of the content, for ``.gz`` uncompressed
            (as ``gzip -lv`` prints it); empty for a file that has none of its own.

        Examples
        --------
        >>> from laion_zarr import load_subject
        >>> sources = load_subject("01").sources()
        >>> sources.columns.tolist()
        ['part', 'file', 'size', 'checksum']
        """
        rows = [
            (name, file, entry["size"], f"{entry['crc32']:08x}" if "crc32" in entry else "")
            for name, part in sorted(self._handle.stored.parts.items())
            for file, entry in sorted(part.sources.items())
            if "/" in file  # not another part, of which this one was made
        ]
        return pd.DataFrame(rows, columns=["part", "file", "size", "checksum"])

    @cached_property
    def _query(self) -> Query:
        # On first use, so that listing the sessions of a subject reads no labels.
        for _ in range(_TRIES):
            try:
                return Query(self._handle)
            except StoreError:
                # A running conversion may have replaced a part after its manifest was read.
                if not self._handle.reopened():
                    raise
        return Query(self._handle)

    @property
    def _grid(self) -> tuple[tuple[int, ...], np.ndarray]:
        """Shape and affine of the functional grid."""
        attrs = self._query.lazy.attrs
        return tuple(attrs["shape"]), np.reshape(attrs["affine"], (4, 4))


def among(name: str, value: object, allowed: tuple[object, ...]) -> None:
    """Raise UnknownNameError if an argument is none of the allowed values."""
    if value not in allowed:
        raise UnknownNameError(f"{name} must be one of {list(allowed)}, got {value!r}.")
