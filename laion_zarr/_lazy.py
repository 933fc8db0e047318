"""Arrays that read only what is selected: xarray's lazy indexing over the store."""

from __future__ import annotations

from typing import Any

import numpy as np
from xarray.backends import BackendArray
from xarray.core import indexing

from laion_zarr._schema import CHUNK_VOXELS, maps_part
from laion_zarr._store import SessionBetas, StoredParts, StoreLike, open_store
from laion_zarr.errors import StoreError

# Chunks (~1 MB each) fetched together: bounds what a block holds beside its result.
_CHUNKS_AT_ONCE = 32


class SubjectHandle:
    """A subject's open store, cheap to send: it pickles as where it is and what it was.

    Parameters
    ----------
    store : str, Path or zarr.abc.store.Store
        As the user named it.
    storage_options : dict, optional
        For fsspec URLs.
    subject : str
        Subject id.
    """

    def __init__(
        self, store: StoreLike, storage_options: dict[str, Any] | None, subject: str
    ) -> None:
        self.subject = subject
        self._recipe = (store, storage_options)
        self._open()

    def _open(self) -> None:
        self.stored = StoredParts(open_store(*self._recipe), self.subject)
        self.checksum = self.stored.checksum
        self._order: np.ndarray | None = None
        self._betas: dict[str, SessionBetas] = {}

    def storage_order(self) -> np.ndarray:
        """Storage position of each voxel of the canonical axis, (voxel,)."""
        if self._order is None:
            self.set_storage_order(self.stored.load("voxels", ["voxel"])["voxel"])
        assert self._order is not None
        return self._order

    def set_storage_order(self, stored_voxels: np.ndarray) -> None:
        """Take the voxel labels in storage order, where they are read already."""
        self._order = np.argsort(stored_voxels)

    def betas(self, session: str) -> SessionBetas:
        """The betas of one session; its chunk table is read once."""
        return self._betas.setdefault(session, SessionBetas(self.stored, session))

    def __getstate__(self) -> dict[str, Any]:
        return {"subject": self.subject, "recipe": self._recipe, "checksum": self.checksum}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.subject, self._recipe = state["subject"], state["recipe"]
        self._open()
        if self.checksum != state["checksum"]:
            raise StoreError(
                f"The store of {self.subject} was rewritten since this object was made. Open it "
                "again with load_subject."
            )

    def __dask_tokenize__(self) -> tuple[str, str, int]:
        return (type(self).__name__, self.subject, self.checksum)


class _LazyArray(BackendArray):
    """What both kinds share: outer indexing by integer arrays, no boolean or strided surprises."""

    dtype = np.dtype("float32")

    def __init__(self, handle: SubjectHandle, shape: tuple[int, int]) -> None:
        self.handle = handle
        self.shape = shape

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._outer
        )

    def _outer(self, key: tuple[Any, ...]) -> np.ndarray:
        rows, cols = (np.arange(n)[k] for n, k in zip(self.shape, key, strict=True))
        values = self._read(np.atleast_1d(rows), np.atleast_1d(cols))
        # An integer indexer drops its axis.
        squeezed = tuple(0 if np.ndim(index) == 0 else slice(None) for index in (rows, cols))
        return values[squeezed]

    def _read(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (type(self).__name__, self.handle.__dask_tokenize__(), self.shape)


class LazyBetas(_LazyArray):
    """All betas of a subject, (trial, voxel) float32: sessions in order, voxels in C order.

    Parameters
    ----------
    handle : SubjectHandle
        The open subject.
    n_trials : dict of str to int
        Trials of each session, in order.
    n_voxels : int
        Voxels of the stored union.
    """

    def __init__(self, handle: SubjectHandle, n_trials: dict[str, int], n_voxels: int) -> None:
        super().__init__(handle, (sum(n_trials.values()), n_voxels))
        self.n_trials = n_trials

    def _read(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        # Voxel-major in memory, as on disk: the copy out of a chunk is then whole rows.
        out = np.empty((len(cols), len(rows)), dtype=self.dtype)
        if out.size:
            stored = self.handle.storage_order()[cols]
            first = 0
            for session, n_trials in self.n_trials.items():
                here = np.flatnonzero((rows >= first) & (rows < first + n_trials))
                if here.size:
                    self._read_session(session, n_trials, rows[here] - first, here, stored, out)
                first += n_trials
        return out.T

    def _read_session(
        self,
        session: str,
        n_trials: int,
        trials: np.ndarray,
        out_trials: np.ndarray,
        stored: np.ndarray,
        out: np.ndarray,
    ) -> None:
        """Fill the columns `out_trials` of `out` with `trials` of one session."""
        by_storage = np.argsort(stored, kind="stable")
        in_order = stored[by_storage]
        ids, starts = np.unique(in_order // CHUNK_VOXELS, return_index=True)
        ends = np.append(starts[1:], len(in_order))
        whole = len(trials) == n_trials and len(out_trials) == out.shape[1]
        in_sequence = whole and (trials == np.arange(n_trials)).all()
        betas = self.handle.betas(session)
        for lo in range(0, len(ids), _CHUNKS_AT_ONCE):
            batch = slice(lo, lo + _CHUNKS_AT_ONCE)
            blocks = betas.chunks(ids[batch], n_trials)
            for block, start, end in zip(blocks, starts[batch], ends[batch], strict=True):
                inside = in_order[start:end] % CHUNK_VOXELS
                target = by_storage[start:end]
                if in_sequence:
                    out[target] = block[inside]
                else:
                    out[np.ix_(target, out_trials)] = block[np.ix_(inside, trials)]


class LazyMap(_LazyArray):
    """One kind of 3-D map of all sessions, (session_id, voxel) float32; NaN where absent.

    Parameters
    ----------
    handle : SubjectHandle
        The open subject.
    name : str
        Name of the map.
    sessions : list of str
        Rows.
    n_voxels : int
        Voxels of the stored union.
    """

    def __init__(
        self, handle: SubjectHandle, name: str, sessions: list[str], n_voxels: int
    ) -> None:
        super().__init__(handle, (len(sessions), n_voxels))
        self.name = name
        self.sessions = sessions

    def _read(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        out = np.full((len(rows), len(cols)), np.nan, dtype=self.dtype)
        stored = self.handle.storage_order()[cols]
        for row, session in enumerate(np.array(self.sessions, dtype=object)[rows]):
            part = maps_part(session)
            if part in self.handle.stored.parts:
                found = self.handle.stored.load(part, [self.name])
                if self.name in found:
                    out[row] = found[self.name][stored]
        return out

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (*super().__dask_tokenize__(), self.name)
