"""Which objects of a store may be read, for the page: those below its root, and no others."""

from __future__ import annotations

from pathlib import Path

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer.cpu import buffer_prototype as BUFFERS
from zarr.core.sync import sync

from laion_zarr.errors import StoreError
from laion_zarr.store.causes import cause_of
from laion_zarr.store.disk import DiskStore
from laion_zarr.store.objects import location


def is_key(key: str) -> bool:
    """Whether a text can be the key of an object: a relative path that leads down only."""
    parts = key.split("/")
    return not ({"", ".", ".."} & set(parts) or "\\" in key or "\0" in key)


def local_path(store: DiskStore, key: str) -> Path | None:
    """Path of the file of an object; None if there is none.

    Raises
    ------
    StoreError
        If a link leads outside of the store.
    """
    try:
        if is_key(key):
            store.opened(key).close()
            return store.root / key
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        pass
    return None


def read_object(store: Store, key: str, span: ByteRequest | None = None) -> bytes | None:
    """Read an object, or a range of it; None if there is none.

    Raises
    ------
    StoreError
        If a link leads outside of the store, or the object cannot be read.
    """
    if not is_key(key):
        return None
    try:
        found = sync(store.get(key, BUFFERS, span))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{location(store, key)} cannot be read: {cause_of(error)}.") from error
    return None if found is None else found.to_bytes()
