"""Limits of what is given to zarr-python: it decodes whatever metadata and headers ask for.

Each object is vetted before zarr sees it: a ``zarr.json`` for being, key by key, one that a store
has; the bytes of a chunk for inflating to what its array's shape allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from zarr.abc.store import Store

from laion_zarr.store import codec
from laion_zarr.store.bounds.nodes import array_bytes, check_array, parse_node
from laion_zarr.store.bounds.payloads import check_frame, check_packed
from laion_zarr.store.bounds.tables import index_bytes
from laion_zarr.store.bounds.text import OutOfBounds
from laion_zarr.store.disk import DiskStore
from laion_zarr.store.objects import Memory, damaged, fetch_spans
from laion_zarr.store.parts import Part
from laion_zarr.store.schema import ArraySpec, Chunking, spec_of

Vetted = tuple[str, tuple[int, ...]]  # type and shape of an array of one chunk

_PIECE = 32 << 20  # of a shard, which a disk gives piece by piece
_GROUP = {"attributes", "zarr_format", "node_type"}
_ARRAY = _GROUP | {"shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value"}
_ARRAY |= {"codecs", "dimension_names", "storage_transformers"}
_PLAIN = {"lz4": "blosc", "zstd": "zstd"}


def vet_node(name: str, part: Part, node: str, data: bytes) -> Vetted | None:
    """Vet the ``zarr.json`` of a node of a part; returns what its chunk, if it has one, must be.

    Raises OutOfBounds if zarr would do with it what it does with no array of a store.
    """
    found = parse_node(data)
    is_array = node in part.arrays() and found.get("node_type") == "array"
    if not is_array:
        _must(found.get("node_type") == "group", "node_type", found)
        _must(set(found) == _GROUP and not part.chunks(node), "keys", found)
        return None
    spec = spec_of(name, node)
    shape = check_array(found, spec, part.chunks(node))
    _must(set(found) <= _ARRAY and found.get("zarr_format") == 3, "keys", found)
    _must(found.get("storage_transformers", []) == [], "storage_transformers", found)
    _must(_named(found.get("chunk_key_encoding")) == "default", "chunk_key_encoding", found)
    _must(_setting(found["chunk_key_encoding"], "separator") == "/", "chunk_key_encoding", found)
    _must(isinstance(found.get("fill_value"), str | int | float), "fill_value", found)
    dims: Any = found.get("dimension_names")
    _must(isinstance(dims, list) and len(dims) == len(shape), "dimension_names", found)
    _must(all(isinstance(dim, str) for dim in dims), "dimension_names", found)
    large = spec is not None and spec.chunking is not None
    chunk = _shard_shape(spec, shape) if large else [max(1, size) for size in shape]
    _must(_named(found.get("chunk_grid")) == "regular", "chunk_grid", found)
    _must(_setting(found["chunk_grid"], "chunk_shape") == chunk, "chunk_grid", found)
    if large:
        assert spec is not None
        _vet_sharding(found, spec, shape)
        return None
    _must(all(map(_plain_settings, found["codecs"])), "codecs", found)
    return found["data_type"], shape


def vet_payload(vetted: Vetted, data: bytes) -> None:
    """Raise a ValueError unless a chunk inflates to the bytes, or to the strings, of its array."""
    dtype, shape = vetted
    if dtype == "string":  # whose number is in the inflated bytes
        codec.decode_array({"data_type": dtype, "shape": shape}, data)
    else:
        check_frame(data[: -codec.CRC_BYTES], array_bytes(dtype, shape))


def vet_shard(
    store: Store, key: str, rows: np.ndarray, size: int, chunks: tuple[Chunking, int]
) -> None:
    """Check the chunks of a shard, some at a time, and then its index.

    Parameters
    ----------
    store, key
        Where the shard is.
    rows : numpy.ndarray, (chunk, 3) int
        Rows of the chunk table, which fill the shard.
    size : int
        Bytes of the shard.
    chunks : tuple of Chunking and int
        How the array is cut, and the bytes that a chunk inflates to.
    """
    chunking, nbytes = chunks
    ends, first, buffer = rows[:, 0] + rows[:, 1], 0, Memory()
    index = np.full((chunking.per_shard, 2), 2**64 - 1, dtype="<u8")
    index[: len(rows)] = rows[:, :2]
    most = _PIECE if isinstance(store, DiskStore) else size
    while first < len(rows):
        start = int(rows[first, 0])
        last = max(first + 1, int(np.searchsorted(ends, start + most, "right")))
        end = size if last == len(rows) else int(ends[last - 1])
        (data,) = fetch_spans(store, [(key, (start, end))], buffer)
        if data is None or len(data) < end - start:
            raise damaged(store, key, "is missing" if data is None else "is cut short")
        for offset, length, crc in rows[first:last].tolist():
            chunk = data[offset - start : offset - start + length - codec.CRC_BYTES]
            if codec.crc32c(chunk) != crc:
                raise damaged(store, key, "has a chunk that is not as listed")
            check_packed(chunk, chunking.packing, nbytes)
        if last == len(rows):
            tail = data[-index_bytes(chunking.per_shard) : -codec.CRC_BYTES].tobytes()
            if tail != index.tobytes():
                raise OutOfBounds("its index differs from the chunk table")
        first = last


def _shard_shape(spec: ArraySpec | None, shape: tuple[int, ...]) -> list[int]:
    assert spec is not None
    assert spec.chunking is not None
    return [spec.chunking.rows * spec.chunking.per_shard, *spec.chunking.row(shape)]


def _vet_sharding(found: Mapping[str, Any], spec: ArraySpec, shape: tuple[int, ...]) -> None:
    assert spec.chunking is not None
    sharding: Any = found["codecs"][0] if _listed(found, 1) else None
    _must(_named(sharding) == "sharding_indexed", "codecs", found)
    settings = sharding["configuration"]
    chunk = [spec.chunking.rows, *spec.chunking.row(shape)]
    _must(settings.get("chunk_shape") == chunk, "codecs", found)
    _must(settings.get("index_location") == "end", "codecs", found)
    packing = [_PLAIN[spec.chunking.packing]] if spec.chunking.packing else []
    for key, names in {
        "codecs": ["bytes", *packing, "crc32c"],
        "index_codecs": ["bytes", "crc32c"],
    }.items():
        codecs = settings.get(key)
        _must(isinstance(codecs, list) and [_named(c) for c in codecs] == names, "codecs", found)
        _must(all(map(_plain_settings, codecs)), "codecs", found)


def _listed(found: Mapping[str, Any], count: int) -> bool:
    return isinstance(found.get("codecs"), list) and len(found["codecs"]) == count


def _named(entry: Any) -> object:
    """Name of an extension such as a codec, if it is one with its settings."""
    if not isinstance(entry, dict) or not isinstance(entry.get("configuration", {}), dict):
        return None
    return entry.get("name") if set(entry) <= {"name", "configuration"} else None


def _setting(entry: Mapping[str, Any], name: str) -> object:
    return entry.get("configuration", {}).get(name)


def _plain_settings(entry: Any) -> bool:
    """Whether the settings of a codec are texts and numbers; little-endian where they say so."""
    if _named(entry) is None:
        return False
    settings = entry.get("configuration", {})
    plain = all(isinstance(value, str | int) for value in settings.values())
    return plain and settings.get("endian", "little") == "little"


def _must(fits: object, key: str, found: Mapping[str, Any]) -> None:
    if not fits:
        said = f": {str(found[key])[:80]!r}" if key in found else ""
        raise OutOfBounds(f"has {key} that arrays and groups of a store do not have{said}")
