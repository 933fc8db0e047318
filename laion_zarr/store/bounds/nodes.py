"""What a ``zarr.json`` says: an array's shape, type, codecs and objects, or a group."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from laion_zarr.store.bounds.attributes import check_attributes
from laion_zarr.store.bounds.payloads import (
    MOST_CHUNK,
    MOST_LOADED,
    check_memory,
    memory_of_strings,
)
from laion_zarr.store.bounds.tables import index_bytes
from laion_zarr.store.bounds.text import MOST_NODE, OutOfBounds, kind, parse, whole
from laion_zarr.store.schema import ArraySpec, Chunking

STRING = "string"
_NUMBERS = {
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
}
_MOST_DIMS = 4
_MOST_ROWS = 1 << 40


def parse_node(data: bytes) -> dict[str, Any]:
    """Parse the ``zarr.json`` of a group or an array, and check its attributes."""
    node = parse(data, MOST_NODE)
    attributes = node.get("attributes")
    if not isinstance(attributes, dict):
        raise OutOfBounds(f"has {kind(attributes)} for its attributes, expected an object")
    check_attributes(attributes)
    return node


def check_array(
    node: Mapping[str, Any], spec: ArraySpec | None, chunks: Mapping[str, int]
) -> tuple[int, ...]:
    """Check the metadata of an array; returns its shape.

    Parameters
    ----------
    node : mapping
        The parsed ``zarr.json``.
    spec : ArraySpec or None
        What the schema has in this place; a `dtype` of ``""`` is that of a table's column. None for
        a part that the schema does not know.
    chunks : mapping of str to int
        Size of each object of the array but its ``zarr.json``, by its key below ``c/``.

    Raises
    ------
    OutOfBounds
        If it is another array than the converter writes there, or its objects are not those of its
        shape, or it would take too much memory.
    """
    if node.get("node_type") != "array":
        raise OutOfBounds("is no array")
    shape, dtype = node.get("shape"), node.get("data_type")
    if (
        not isinstance(shape, list)
        or len(shape) > _MOST_DIMS
        or not all(whole(size, _MOST_ROWS) for size in shape)
    ):
        raise OutOfBounds(f"has the shape {str(shape)[:80]}, expected up to {_MOST_DIMS} sizes")
    if not isinstance(dtype, str) or dtype not in {STRING, *_NUMBERS}:
        raise OutOfBounds(f"has the data type {str(dtype)[:80]!r}, expected numbers or strings")
    if spec is not None and (len(shape) != len(spec.dims) or spec.dtype not in ("", dtype)):
        expected = f"{spec.dtype or 'any type'} along {', '.join(spec.dims)}"
        raise OutOfBounds(f"has {dtype} in {len(shape)} dims, expected {expected}")
    if spec is None or spec.chunking is None:
        _check_small(node, dtype, shape, chunks)
    else:
        _check_large(spec.chunking, dtype, shape, chunks)
    return tuple(shape)


def array_bytes(dtype: str, shape: tuple[int, ...] | list[int]) -> int:
    """Bytes in memory of an array; of strings, without their text."""
    count = math.prod(shape)
    return memory_of_strings(0, count) if dtype == STRING else count * np.dtype(dtype).itemsize


def _check_small(
    node: Mapping[str, Any], dtype: str, shape: list[int], chunks: Mapping[str, int]
) -> None:
    codecs: Any = node.get("codecs")
    names = [its.get("name") for its in codecs] if _are_objects(codecs) else []
    plain = "vlen-utf8" if dtype == STRING else "bytes"
    if names != [plain, "zstd", "crc32c"]:
        found = ", ".join(map(str, names))[:80] or kind(codecs)
        raise OutOfBounds(f"has the codecs {found}, expected {plain}, zstd, crc32c")
    nbytes = array_bytes(dtype, shape)
    check_memory(nbytes)
    expected = ["/".join("0" for _ in shape)] if all(shape) else []
    if sorted(chunks) != expected:
        raise OutOfBounds(f"has {len(chunks)} objects for its shape {shape}, expected one chunk")
    _check_sizes(chunks, MOST_LOADED if dtype == STRING else stored_bytes(nbytes))


def _check_large(
    chunking: Chunking, dtype: str, shape: list[int], chunks: Mapping[str, int]
) -> None:
    if dtype == STRING or array_bytes(dtype, [chunking.rows, *chunking.row(shape)]) > MOST_CHUNK:
        raise OutOfBounds(f"has the shape {shape}, whose chunks are larger than {MOST_CHUNK:,}")
    n_chunks = -(-shape[0] // chunking.rows)
    n_shards, n_blocks = -(-n_chunks // chunking.per_shard), chunking.n_blocks(shape)
    wheres = itertools.product(range(n_shards), range(n_blocks))
    if len(chunks) != n_shards * n_blocks or any(
        f"{n}{chunking.below(block, len(shape))}" not in chunks for n, block in wheres
    ):
        raise OutOfBounds(
            f"has {len(chunks):,} objects for its shape {shape}, expected {n_shards * n_blocks:,}"
        )
    unpacked = array_bytes(dtype, [chunking.rows, *chunking.row(shape)])
    index = index_bytes(chunking.per_shard)
    _check_sizes(chunks, chunking.per_shard * stored_bytes(unpacked) + index)
    if chunking.packing is None:  # all chunks have one size, and all columns
        below = chunking.below(0, len(shape))
        stored = unpacked + 4
        for number in range(n_shards):
            held = min(chunking.per_shard, n_chunks - number * chunking.per_shard)
            size = held * stored + index
            if chunks[f"{number}{below}"] != size:
                raise OutOfBounds(f"has the shape {shape}, which shard {number} does not have")


def stored_bytes(nbytes: int) -> int:
    """Most bytes of a chunk that inflates to `nbytes`: what does not get smaller gets larger."""
    return nbytes + nbytes // 128 + 1024


def _check_sizes(chunks: Mapping[str, int], most: int) -> None:
    for key, size in chunks.items():
        if size > most:
            raise OutOfBounds(f"has {size:,} bytes in c/{key}, its shape is of {most:,} at most")


def _are_objects(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(its, dict) for its in values)
