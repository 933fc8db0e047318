"""Bytes of the store <-> numpy: checksums, shards of large arrays, small arrays of one chunk.

The store is plain Zarr v3, which any Zarr library can read. laion_zarr decodes the bytes in this
module instead, because a Zarr library reads a missing shard as fill values and a swapped shard
without an error; here, every chunk is compared with the checksum that the converter recorded for
that chunk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import crc32c as crc32c_package
import numpy as np
from isal import isal_zlib
from numcodecs import blosc, zstd
from numcodecs.vlen import VLenUTF8

from laion_zarr.store.bounds.payloads import (
    check_frame,
    check_packed,
    check_strings,
    frame_size,
)

CRC_BYTES = 4
ZSTD_LEVEL = 3
BLOSC_LEVEL = 5
_ABSENT = np.uint64(2**64 - 1)  # entry of a shard's index for a chunk that the shard does not hold


class ChecksumError(ValueError):
    """Bytes do not match their checksum, or their codec is not part of the schema."""


def crc32c(data: bytes | np.ndarray) -> int:
    """CRC-32C (Castagnoli) of bytes, the checksum of Zarr's ``crc32c`` codec.

    Does not hold Python's lock, so that threads prove their chunks at the same time.
    """
    buffer: Any = data  # an array is one, too
    return crc32c_package.crc32c(buffer)


def crc32(data: bytes | np.ndarray, before: int = 0) -> int:
    """CRC-32 (as in gzip), the checksum that a manifest records for each object.

    `before` is that of the bytes before these, where an object is read piece by piece.

    Not CRC-32C, which has another polynomial: most objects end in the CRC-32C of the preceding
    bytes, and the CRC-32C of such an object is a constant, whatever the data are.
    """
    return isal_zlib.crc32(data, before)


def _strip_crc(payload: bytes) -> bytes:
    data, stored = payload[:-CRC_BYTES], payload[-CRC_BYTES:]
    if crc32c(data) != int.from_bytes(stored, "little"):
        raise ChecksumError("checksum differs")
    return data


def decode_array(metadata: Mapping[str, Any], payload: bytes) -> np.ndarray:
    """Decode an array of one chunk from its ``zarr.json`` and the bytes of the chunk.

    Strings are returned as an object array of `str`. The metadata must have passed `store.bounds`,
    by which the codecs are those of the schema. Memory is taken for what the shape allows.
    """
    packed = _strip_crc(payload)
    shape = tuple(metadata["shape"])
    count = math.prod(shape)
    if metadata["data_type"] == "string":
        size = frame_size(packed)
        check_strings(size, count)
        data = zstd.decompress(packed, np.empty(size, np.uint8))
        if int.from_bytes(data[:4].tobytes(), "little") != count:
            raise ChecksumError(f"it does not hold {count:,} strings")
        return VLenUTF8().decode(data).reshape(shape)
    dtype = np.dtype(metadata["data_type"]).newbyteorder("<")
    check_frame(packed, count * dtype.itemsize)
    values = np.empty(count, dtype)
    zstd.decompress(packed, values)
    return values.reshape(shape)


def encode_array(metadata: dict[str, Any], values: np.ndarray) -> bytes:
    """Encode an array as one chunk; the inverse of `decode_array`."""
    data: Any = values
    for codec in metadata["codecs"]:
        match codec["name"]:
            case "bytes":
                dtype = np.dtype(metadata["data_type"]).newbyteorder("<")
                data = np.ascontiguousarray(values, dtype).tobytes()
            case "vlen-utf8":
                data = VLenUTF8().encode(values.astype(object).ravel())
            case "zstd":
                data = zstd.compress(data, codec["configuration"]["level"])
            case "crc32c":
                data = bytes(data)
                data += crc32c(data).to_bytes(CRC_BYTES, "little")
            case name:
                raise ValueError(f"codec {name!r} is not of this schema")
    return data


def encode_chunk(block: np.ndarray, packing: str | None) -> bytes:
    """Encode one chunk of a large array in C order: compress with `packing`, append the CRC-32C."""
    match packing:
        case "lz4":
            packed = blosc.compress(block, b"lz4", BLOSC_LEVEL, blosc.BITSHUFFLE)
        case "zstd":
            packed = bytes(zstd.compress(block, ZSTD_LEVEL))
        case _:
            packed = block.tobytes()
    return packed + crc32c(packed).to_bytes(CRC_BYTES, "little")


def decode_chunk(
    payload: np.ndarray, packing: str | None, expected_crc: int, out: np.ndarray
) -> np.ndarray:
    """Verify the CRC-32C of a chunk; decode it into `out`, or return a view if uncompressed."""
    data = payload[:-CRC_BYTES]
    if crc32c(data) != expected_crc:
        raise ChecksumError("checksum differs")
    check_packed(data, packing, out.nbytes)
    if packing is None:
        return data.view(out.dtype).reshape(out.shape)
    (blosc if packing == "lz4" else zstd).decompress(data, out)
    return out


def join_shard(chunks: Sequence[bytes], per_shard: int) -> tuple[bytes, np.ndarray]:
    """Join encoded chunks into one Zarr shard.

    Parameters
    ----------
    chunks : sequence of bytes
        Chunks of the shard in order, as `encode_chunk` returns them; the last shard of an array may
        have fewer than `per_shard`.
    per_shard : int
        Number of chunks of a full shard.

    Returns
    -------
    shard : bytes
        Chunks, followed by Zarr's index of the shard.
    table : numpy.ndarray, (chunk, 3) uint64
        Offset in the shard, size in bytes and CRC-32C of each chunk.
    """
    sizes = np.array([len(chunk) for chunk in chunks], dtype="<u8")
    offsets = np.cumsum(sizes, dtype="<u8") - sizes
    index = np.full((per_shard, 2), _ABSENT, dtype="<u8")
    index[: len(chunks)] = np.column_stack([offsets, sizes])
    tail = index.tobytes()
    tail += crc32c(tail).to_bytes(CRC_BYTES, "little")
    crcs = [int.from_bytes(chunk[-CRC_BYTES:], "little") for chunk in chunks]
    return b"".join([*chunks, tail]), np.column_stack([offsets, sizes, np.array(crcs, "<u8")])
