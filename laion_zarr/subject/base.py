"""Base class of all parts of `Subject`: the open store, and selections from it."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from laion_zarr.arrays.lazy import SubjectHandle
from laion_zarr.arrays.query import Query
from laion_zarr.errors import StoreError
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
        return tuple(attrs["shape"]), np.array(attrs["affine"])
