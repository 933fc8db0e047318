"""Open groups of the store that pickle, so that other processes can use them."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any, Self

from laion_zarr.errors import StoreError
from laion_zarr.store.objects import StoreLike, open_store
from laion_zarr.store.parts import StoredParts

_opening = threading.Lock()


def _forget_threads() -> None:
    """Reset Dask's thread pools in a forked child, which has no such threads and would hang."""
    threaded: Any = sys.modules.get("dask.threaded")
    if threaded is not None:
        threaded.default_pool = None
        threaded.pools.clear()
        threaded.pools_lock = threading.Lock()
    global _opening
    _opening = threading.Lock()  # a thread of the parent may hold the old lock


# A PyTorch DataLoader may fork workers from a process that has already read data with Dask's
# threads. zarr resets its own threads after a fork; Dask does not:
# https://github.com/dask/dask/issues/1967
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


class Handle:
    """Open group of a store, which pickles as its location and the checksum of its manifest.

    Parameters
    ----------
    store : str, Path or zarr.abc.store.Store
        Path, URL or Zarr store, as the user passed it.
    storage_options : dict, optional
        Options of fsspec for a URL.
    group : str
        Group whose manifest is read: ``"sub-01"`` or ``"stimuli"``.
    """

    def __init__(
        self, store: StoreLike, storage_options: dict[str, Any] | None, group: str
    ) -> None:
        self.group = group
        if isinstance(store, str | Path) and "://" not in str(store):
            store = Path(store).expanduser().absolute()  # valid in any working directory
        self.recipe = (store, storage_options)
        self._forget()
        self._stored: StoredParts | None = self._opened()
        self.checksum = self._stored.checksum

    def _forget(self) -> None:
        """Drop the data that a subclass has cached from the store."""

    def _opened(self) -> StoredParts:
        self._pid = os.getpid()
        return StoredParts(open_store(*self.recipe), self.group)

    @property
    def stored(self) -> StoredParts:
        """Parts of the group; a forked child opens its own connections to the store."""
        found = self._stored or self._opened_where_sent()
        if self._pid != os.getpid():
            found.store = open_store(*self.recipe)
            self._pid = os.getpid()
        return found

    def _opened_where_sent(self) -> StoredParts:
        """Open the store at the first use after unpickling, as a scheduler may have no access."""
        with _opening:
            if self._stored is None:  # otherwise another thread has opened it
                found = self._opened()
                if found.checksum != self.checksum:
                    raise StoreError(
                        f"The store of {self.group} was rewritten since this object was made. Open "
                        "it again."
                    )
                self._stored = found
            return self._stored

    def reopened(self) -> bool:
        """Open the store again; returns whether the manifest of the group has changed."""
        before = self.checksum
        self._stored = self._opened()
        self.checksum = self._stored.checksum
        self._forget()
        return self.checksum != before

    def __getstate__(self) -> dict[str, Any]:
        return {"group": self.group, "recipe": self.recipe, "checksum": self.checksum}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.group, self.recipe = state["group"], state["recipe"]
        self.checksum = state["checksum"]
        self._forget()
        self._stored = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # has no data to modify; a copy would open the store again

    def __dask_tokenize__(self) -> tuple[str, str, int]:
        return (type(self).__name__, self.group, self.checksum)
