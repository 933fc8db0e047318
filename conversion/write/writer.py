"""Write objects to a store, and record size and checksum of the objects of a part."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from zarr.abc.store import Store
from zarr.core.sync import sync
from zarr.storage import FsspecStore

from laion_zarr.conversion.write.metadata import array_metadata, group_metadata
from laion_zarr.errors import StoreError
from laion_zarr.store import codec
from laion_zarr.store.causes import cause_of
from laion_zarr.store.objects import BUFFERS, location
from laion_zarr.store.parts import Part, StoredParts
from laion_zarr.store.remote import explain
from laion_zarr.store.schema import (
    ArraySpec,
)

log = logging.getLogger("laion_zarr")


@contextmanager
def changing(store: Store, key: str) -> Iterator[None]:
    """Turn errors of a full disk or a read-only store into a `StoreError` that names the key."""
    try:
        yield
    except Exception as error:
        if isinstance(store, FsspecStore):  # fsspec's libraries raise many types
            raise StoreError(f"{location(store, key)} cannot be written: {explain(error)}.") from (
                error
            )
        if not isinstance(error, OSError | ValueError):  # ValueError: a store opened read-only
            raise
        reason = cause_of(error) if isinstance(error, OSError) else f"{error}. Open it for writing"
        raise StoreError(
            f"{location(store, key)} cannot be written: {reason}, then run the same command: what "
            "is whole is kept."
        ) from error


def put(store: Store, key: str, data: bytes) -> None:
    """Write one object; on a disk, to a temporary file that is then renamed."""
    with changing(store, key):
        sync(store.set(key, BUFFERS.buffer.from_bytes(data)))


def delete(store: Store, key: str) -> None:
    """Remove one object."""
    with changing(store, key):
        sync(store.delete(key))


def delete_below(store: Store, group: str) -> None:
    """Remove all objects of a group."""
    with changing(store, group):
        sync(store.delete_dir(group))


def keys_below(store: Store, prefix: str) -> list[str]:
    """Keys of all objects of a group."""

    async def collect() -> list[str]:
        # Some stores compare keys as plain text: the prefix "sub-1" must not find "sub-10".
        return [key async for key in store.list_prefix(prefix) if key.startswith(f"{prefix}/")]

    return sync(collect())


class PartWriter:
    """Writes one part and records the size and checksum of each of its objects.

    Parameters
    ----------
    store : zarr.abc.store.Store
        Open for writing.
    path : str
        Group to write the part to.
    """

    def __init__(self, store: Store, path: str) -> None:
        self._store = store
        self.path = path
        self.files: dict[str, tuple[int, int]] = {}

    def put(self, key: str, data: bytes) -> None:
        """Write one object below the part's group."""
        put(self._store, f"{self.path}/{key}", data)
        self.files[key] = (len(data), codec.crc32(data))

    def group(self, attributes: Mapping[str, Any], node: str = "") -> None:
        """Write a group's metadata."""
        self.put(f"{node}/zarr.json".lstrip("/"), group_metadata(attributes))

    def metadata(
        self,
        spec: ArraySpec,
        shape: tuple[int, ...],
        attributes: Mapping[str, Any] | None = None,
        node: str = "",
    ) -> dict[str, Any]:
        """Write an array's metadata."""
        metadata = array_metadata(spec, shape, attributes or {})
        name = f"{node}/{spec.name}".lstrip("/")
        self.put(f"{name}/zarr.json", json.dumps(metadata, indent=2).encode())
        return metadata

    def array(
        self,
        spec: ArraySpec,
        values: np.ndarray,
        attributes: Mapping[str, Any] | None = None,
        node: str = "",
    ) -> None:
        """Write a small array as one chunk; an empty array has no chunk."""
        metadata = self.metadata(spec, values.shape, attributes, node)
        if values.size:
            name = f"{node}/{spec.name}".lstrip("/")
            chunk = "/".join(["c", *("0" for _ in spec.dims)])
            self.put(f"{name}/{chunk}", codec.encode_array(metadata, values))

    def take_over(self, stored: StoredParts, part: Part, name: str) -> None:
        """Copy an array from a stored part, byte for byte."""
        for key, data in stored.read(part, part.array_files(name)).items():
            self.put(key, data)

    def part(self, sources: Mapping[str, Mapping[str, int]]) -> Part:
        """Return the written part, with its source files, as the manifest lists it."""
        return Part(self.path, dict(sorted(self.files.items())), dict(sorted(sources.items())))
