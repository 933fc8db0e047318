"""``zarr.json`` of every group and array, as zarr-python would write it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from laion_zarr.store import codec
from laion_zarr.store.schema import ROOT_ATTRIBUTE, SCHEMA_VERSION, ArraySpec, Chunking

_CRC32C = {"name": "crc32c"}


def group_metadata(attributes: Mapping[str, Any]) -> bytes:
    """``zarr.json`` of a group."""
    node = {"attributes": dict(attributes), "zarr_format": 3, "node_type": "group"}
    return json.dumps(node, indent=2).encode()


def array_metadata(
    spec: ArraySpec, shape: tuple[int, ...], attributes: Mapping[str, Any]
) -> dict[str, Any]:
    """``zarr.json`` of an array: one chunk, or chunks in shards where it is large.

    Written out here, because the metadata that a Zarr library writes depend on its version and
    settings.
    """
    plain, fill_value = _plain_codec(spec.dtype)
    codecs, chunk_shape = [plain, _zstd(spec.level), _CRC32C], tuple(max(1, size) for size in shape)
    if spec.chunking is not None:
        row = spec.chunking.row(shape)
        codecs = [_sharding(plain, spec.chunking, spec.dtype, row)]
        chunk_shape = (spec.chunking.rows * spec.chunking.per_shard, *row)
    return {
        "shape": list(shape),
        "data_type": spec.dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk_shape)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill_value,
        "codecs": codecs,
        "attributes": spec.attributes | dict(attributes),
        "dimension_names": list(spec.dims),
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def _zstd(level: int) -> dict[str, Any]:
    return {"name": "zstd", "configuration": {"level": level, "checksum": False}}


def _plain_codec(dtype: str) -> tuple[dict[str, Any], object]:
    """Codec that turns values into bytes, and the fill value (unused: every chunk is written)."""
    if dtype == "string":
        return {"name": "vlen-utf8", "configuration": {}}, ""
    number = np.dtype(dtype)
    order = {"configuration": {"endian": "little"}} if number.itemsize > 1 else {}
    return {"name": "bytes"} | order, {"f": "NaN", "b": False}.get(number.kind, 0)


def _sharding(
    plain: Mapping[str, Any], chunking: Chunking, dtype: str, row: tuple[int, ...]
) -> dict[str, Any]:
    """Sharding codec of a large array, with the codecs of the chunks in a shard."""
    blosc = {
        "typesize": np.dtype(dtype).itemsize,
        "cname": "lz4",
        "clevel": codec.BLOSC_LEVEL,
        "shuffle": "bitshuffle",
        "blocksize": 0,
    }
    packed = {
        "lz4": [{"name": "blosc", "configuration": blosc}],
        "zstd": [_zstd(codec.ZSTD_LEVEL)],
    }
    index = {"name": "bytes", "configuration": {"endian": "little"}}
    return {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": [chunking.rows, *row],
            "codecs": [plain, *packed.get(chunking.packing or "", []), _CRC32C],
            "index_codecs": [index, _CRC32C],
            "index_location": "end",
        },
    }


def consolidated(nodes: Mapping[str, Any]) -> bytes:
    """``zarr.json`` of the root with the metadata of all nodes, as zarr-python consolidates."""
    inline = {"kind": "inline", "must_understand": False}
    metadata = {}
    for name in sorted(nodes, key=lambda name: (name.count("/"), name.casefold(), name)):
        node = dict(nodes[name])
        if node.get("node_type") == "group":
            kind = node.pop("node_type")
            node |= {"consolidated_metadata": {**inline, "metadata": {}}, "node_type": kind}
        metadata[name] = node
    root = {
        "attributes": {ROOT_ATTRIBUTE: {"schema_version": SCHEMA_VERSION}},
        "zarr_format": 3,
        "consolidated_metadata": {**inline, "metadata": metadata},
        "node_type": "group",
    }
    return json.dumps(root, indent=2).encode()
