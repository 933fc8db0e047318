"""An open group of the store that can be sent to other processes."""

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
    """In a forked child: Dask's threads stayed with the parent; it would wait for them for ever."""
    threaded: Any = sys.modules.get("dask.threaded")
    if threaded is not None:
        threaded.default_pool = None
        threaded.pools.clear()
        threaded.pools_lock = threading.Lock()
    global _opening
    _opening = threading.Lock()  # a thread that stayed with the parent may have held it


# A data loader forks workers from a process that has read. As zarr does for its own threads;
# Dask does not: https://github.com/dask/dask/issues/1967
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


class Handle:
    """A group's open store, cheap to send: it pickles as where it is and what it was.

    Parameters
    ----------
    store : str, Path or zarr.abc.store.Store
        As the user named it.
    storage_options : dict, optional
        For fsspec URLs.
    group : str
        Group whose manifest counts: ``"sub-01"`` or ``"stimuli"``.
    """

    def __init__(
        self, store: StoreLike, storage_options: dict[str, Any] | None, group: str
    ) -> None:
        self.group = group
        if isinstance(store, str | Path) and "://" not in str(store):
            store = Path(store).expanduser().absolute()  # wherever it is opened again
        self.recipe = (store, storage_options)
        self._forget()
        self._stored: StoredParts | None = self._opened()
        self.checksum = self._stored.checksum

    def _forget(self) -> None:
        """Let go of what was read."""

    def _opened(self) -> StoredParts:
        self._pid = os.getpid()
        return StoredParts(open_store(*self.recipe), self.group)

    @property
    def stored(self) -> StoredParts:
        """What the store holds; in a forked child, over connections of its own."""
        found = self._stored or self._opened_where_sent()
        if self._pid != os.getpid():
            found.store = open_store(*self.recipe)
            self._pid = os.getpid()
        return found

    def _opened_where_sent(self) -> StoredParts:
        """Open the store on the first use of what was sent: who passes it on may not reach it."""
        with _opening:
            if self._stored is None:  # else another thread was first
                found = self._opened()
                if found.checksum != self.checksum:
                    raise StoreError(
                        f"The store of {self.group} was rewritten since this object was made. Open "
                        "it again."
                    )
                self._stored = found
            return self._stored

    def reopened(self) -> bool:
        """Open again; whether the store has changed since."""
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
        return self  # nothing to write into; a copy would open the store again

    def __dask_tokenize__(self) -> tuple[str, str, int]:
        return (type(self).__name__, self.group, self.checksum)
