"""Headers of compressed bytes: what they inflate to, known before any memory is taken."""

from __future__ import annotations

from typing import Any

from laion_zarr.store.bounds.text import OutOfBounds

MOST_LOADED = 128 << 20  # of small arrays that are loaded together, in memory
MOST_CHUNK = 64 << 20  # of one chunk of a large array, in memory
_MOST_FEW = 32 << 20  # bytes of a few strings: one field of a table may be very long
_STRING = 57  # bytes of memory of a string, besides its text
_MOST_TEXT = 4096  # bytes of a text, on average over an array

_MAGIC = b"\x28\xb5\x2f\xfd"
_BLOSC_HEADER = 16


def frame_size(data: Any) -> int:
    """Bytes that zstd data inflate to, as their header says.

    Raises OutOfBounds unless the data are one frame, to the last byte: a second one, or one that
    does not say its size, inflates to anything.
    """
    view = memoryview(data)
    if len(view) < 9 or view[:4] != _MAGIC:
        raise OutOfBounds("it is no zstd data")
    flags = view[4]
    single, checksum = flags >> 5 & 1, flags >> 2 & 1
    start = 6 - single + (0, 1, 2, 4)[flags & 3]
    width = (single, 2, 4, 8)[flags >> 6]
    if not width or flags & 3:
        raise OutOfBounds("its zstd data do not say their size, or need a dictionary")
    size = int.from_bytes(view[start : start + width], "little") + (256 if width == 2 else 0)
    place, last = start + width, 0
    while not last and place + 3 <= len(view):
        block = int.from_bytes(view[place : place + 3], "little")
        last, how = block & 1, block >> 1 & 3
        place += 3 + (1 if how == 1 else block >> 3)
    if not last or place + 4 * checksum != len(view):
        raise OutOfBounds("its zstd data are not one frame")
    return size


def check_frame(data: Any, nbytes: int) -> None:
    """Raise OutOfBounds unless zstd data inflate to exactly `nbytes`."""
    if (size := frame_size(data)) != nbytes:
        raise OutOfBounds(f"it inflates to {size:,} bytes, its shape is of {nbytes:,}")


def check_blosc(data: Any, nbytes: int) -> None:
    """Raise OutOfBounds unless blosc data inflate to exactly `nbytes`."""
    view = memoryview(data)
    sizes = [int.from_bytes(view[start : start + 4], "little") for start in (4, 8, 12)]
    if len(view) < _BLOSC_HEADER or sizes[2] != len(view):
        raise OutOfBounds("it is no blosc data")
    if sizes[0] != nbytes:
        raise OutOfBounds(f"it inflates to {sizes[0]:,} bytes, its shape is of {nbytes:,}")
    if not 0 < sizes[1] <= nbytes:
        raise OutOfBounds(f"it has blocks of {sizes[1]:,} bytes in {nbytes:,}")


def check_packed(data: Any, packing: str | None, nbytes: int) -> None:
    """Raise OutOfBounds unless a chunk, without its checksum, inflates to exactly `nbytes`."""
    if packing == "lz4":
        check_blosc(data, nbytes)
    elif packing == "zstd":
        check_frame(data, nbytes)
    elif len(data) != nbytes:
        raise OutOfBounds(f"it has {len(data):,} bytes, its shape is of {nbytes:,}")


def check_strings(size: int, count: int) -> None:
    """Raise OutOfBounds unless `count` strings fit into `size` bytes, and into memory."""
    if not 4 * (count + 1) <= size <= max(_MOST_FEW, _MOST_TEXT * count):
        raise OutOfBounds(f"it has {size:,} bytes for {count:,} strings")
    check_memory(memory_of_strings(size, count))


def memory_of_strings(size: int, count: int) -> int:
    """Bytes of memory that strings take, whose lengths and texts have `size` bytes."""
    return size + (8 + _STRING) * count


def check_memory(nbytes: int) -> None:
    """Raise OutOfBounds if small arrays would take more memory than `MOST_LOADED`."""
    if nbytes > MOST_LOADED:
        raise OutOfBounds(
            f"would take {nbytes:,} bytes of memory, expected at most {MOST_LOADED:,}"
        )
