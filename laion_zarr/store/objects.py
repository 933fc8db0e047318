"""Objects of a store: read in concurrent requests and compared with the manifest."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from zarr.abc.store import RangeByteRequest, Store
from zarr.core.buffer import Buffer
from zarr.core.buffer.cpu import buffer_prototype as BUFFERS
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore

from laion_zarr.errors import StoreError
from laion_zarr.store import codec
from laion_zarr.store.causes import cause_of
from laion_zarr.store.disk import DiskStore
from laion_zarr.store.remote import RemoteStore, is_remote, name_of
from laion_zarr.store.schema import SPLITS_GROUP

StoreLike = str | Path | Store


def open_store(
    store: StoreLike, storage_options: dict[str, Any] | None = None, read_only: bool = True
) -> Store:
    """Open a local path or an fsspec URL; a Zarr store is returned as is. Reads nothing.

    Of a folder, also one given as zarr's own `LocalStore`, nothing outside is read or written.
    """
    if type(store) is LocalStore:
        return DiskStore(store.root, read_only=store.read_only)
    if isinstance(store, Store):
        return store
    if isinstance(store, str) and is_remote(store):
        return RemoteStore.at(store, storage_options, read_only)
    path = Path(str(store).removeprefix("file://")).expanduser()
    return DiskStore(path.absolute(), read_only=read_only)


def location(store: Store, key: str = "") -> str:
    """Path or URL of a key, as a user would write it."""
    if isinstance(store, LocalStore):
        return str(store.root / key)
    if isinstance(store, FsspecStore):
        return name_of(store, key)
    return f"{store}/{key}".rstrip("/")


async def _get(store: Store, key: str, span: tuple[int, int] | None) -> Buffer | None:
    request = None if span is None else RangeByteRequest(*span)
    try:
        return await store.get(key, BUFFERS, request)
    except FileNotFoundError:  # the folder of a local store does not exist
        return None
    except StoreError:
        raise
    except OSError as error:
        raise unreadable(store, key, error) from error
    except Exception as error:
        raise damaged(store, key, f"cannot be read ({error})") from error


async def _get_all(
    store: Store, requests: Iterable[tuple[str, tuple[int, int] | None]]
) -> list[Buffer | None]:
    return await asyncio.gather(*(_get(store, key, span) for key, span in requests))


def _get_local(store: DiskStore, key: str, start: int, data: np.ndarray) -> np.ndarray | None:
    """Read bytes of a local file; twice as fast as through an event loop and its threads."""
    n_read = 0
    try:
        with store.opened(key) as file:
            file.seek(start)
            while n_read < len(data) and (n := file.readinto(data[n_read:].data)):
                n_read += n
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise unreadable(store, key, error) from error
    return data[:n_read]


def _bytes_there(store: DiskStore, key: str, span: tuple[int, int]) -> int:
    """Length of a range of a file, at most what the file has of it: no more memory is taken."""
    try:
        size = (store.root / key).stat().st_size
    except OSError:  # said when the file is opened
        return 0
    return max(0, min(span[1], size) - span[0])


def fetch(
    store: Store, keys: Sequence[str], most: Sequence[int] | None = None
) -> list[bytes | None]:
    """Read whole objects in concurrent requests; None for a missing object.

    On a disk, of an object that is larger than its entry in `most`, one byte more than that; other
    storage is asked for the whole object, since not every server can send a part.
    """
    bounded = most is not None and isinstance(store, DiskStore)
    spans = [(0, size + 1) for size in most or ()] if bounded else [None] * len(keys)
    found = sync(_get_all(store, list(zip(keys, spans, strict=True))))
    return [None if value is None else value.to_bytes() for value in found]


class Memory:
    """Reusable buffer: new memory is slower, as the kernel must first find and clear every page."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def array(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Uninitialised array in the buffer; an array returned before becomes invalid."""
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes > len(self._bytes):
            self._bytes = np.empty(nbytes, np.uint8)
        return self._bytes[:nbytes].view(dtype).reshape(shape)


def fetch_spans(
    store: Store,
    requests: Sequence[tuple[str, tuple[int, int]]],
    buffer: Memory | None = None,
) -> list[np.ndarray | None]:
    """Read byte ranges of objects, as uint8 arrays without a copy.

    A request is a key and its range (start, end); the answer is None for a missing object. Requests
    are concurrent, but of a local store, with a `buffer`, one after the other: the kernel copies
    into the buffer, and an event loop would only hand Python's lock to and fro. An array that was
    read into `buffer` is valid until `buffer` is used again.
    """
    if type(store) is DiskStore and (buffer is not None or len(requests) == 1):
        sizes = [_bytes_there(store, key, span) for key, span in requests]
        data = (buffer or Memory()).array((sum(sizes),), np.dtype(np.uint8))
        parts = np.split(data, np.cumsum(sizes)[:-1])
        return [
            _get_local(store, key, start, part)
            for (key, (start, _)), part in zip(requests, parts, strict=True)
        ]
    found = sync(_get_all(store, requests))
    return [None if value is None else value.as_numpy_array() for value in found]


def damaged(store: Store, key: str, what: str) -> StoreError:
    """Error for an object that is missing, unreadable or different from the manifest's record."""
    mends = "splits add" if key.startswith(f"{SPLITS_GROUP}/") else "convert --overwrite"
    return StoreError(
        f"{location(store, key)} {what}. It is damaged, or the store was rewritten since it was "
        f"opened: open it again; if that does not help, 'laion-zarr verify --store "
        f"{location(store)}' lists what is damaged, and 'laion-zarr {mends}' mends it."
    )


def unreadable(store: Store, key: str, error: OSError) -> StoreError:
    """Error for an object, whole or not, that the operating system does not let us read."""
    return StoreError(f"{location(store, key)} cannot be read: {cause_of(error)}.")


def check(store: Store, key: str, data: bytes | None, expected: tuple[int, int]) -> bytes:
    """Return `data` if its size and CRC-32 are the `expected` ones; raises StoreError otherwise."""
    size, crc = expected
    if data is None:
        raise damaged(store, key, "is missing")
    if len(data) != size:
        raise damaged(store, key, f"has {len(data):,} bytes, expected {size:,}")
    if codec.crc32(data) != crc:
        raise damaged(store, key, "does not match its checksum")
    return data
