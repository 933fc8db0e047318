"""By what a version of a file is recognized: its size, and checksums that depend on its content.

Reading a mirror of 300 GB whole would take an hour, and an unchanged one must be skipped in
seconds. So a file is read whole only where that is quick, or where nothing less would do:

- up to 1 MiB: whole;
- gzip: a sample of its bytes, and the CRC-32 in its last eight bytes, which is that of all of the
  content if the file has one member, as nearly all have. A file of many members in the manner of
  bgzip is read whole up to 128 MiB, since its members change one by one;
- not packed: whole up to 128 MiB, a larger one by a sample.

The sample is a BLAKE2b hash. CRC-32 does not do for bytes that hold CRC-32s of their own, as the
members of a gzip file and the chunks of a PNG do: it is the same for any two that are right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b

from isal import isal_zlib

# {"size": bytes of the file, "crc32": CRC-32 of the unpacked content, "sample": hash of bytes of
# the file as they are}, see `identify`.
Identity = dict[str, int]
Read = Callable[[int, int], bytes]  # bytes of the file from a start to an end

SMALL = 1 << 20  # bytes: what is read whole, whatever it is
WHOLE = 128 << 20  # bytes: what is read whole if no part of the file tells of the rest
_PIECE = 4096  # bytes of each piece of a sample
_PIECES_PACKED = 8  # pieces of a gzip file, whose own checksum tells more than they do
_PIECES_PLAIN = 64
_HASH = 6  # bytes of a hash: a number that JSON readers in any language take exactly
_READ = 4 << 20  # bytes read at once
_TRAILER = 8  # bytes at the end of a gzip file: CRC-32 and size of the content of its last member


def identify(path: str, size: int, read: Read) -> Identity:
    """Identity of a file of this name and size, whose bytes `read` returns.

    There is no ``crc32`` where that would tell nothing: the last member of a bgzip file is empty,
    and the last bytes of a padded file are zeros.
    """
    if is_read_whole(path, size):
        return identity_of_all(size, (read(*span) for span in _blocks(size)))
    if not path.endswith(".gz"):
        return {"size": size, "sample": _sample(read, _pieces(size, _PIECES_PLAIN))}
    if size <= SMALL:
        data = read(0, size)
        sample, trailer = _hash([data]), data[-_TRAILER:]
    else:
        is_whole = size <= WHOLE and _is_blocked(read(0, 18))
        spans = _blocks(size) if is_whole else _pieces(size, _PIECES_PACKED)
        sample, trailer = _sample(read, spans), read(size - _TRAILER, size)
    crc32, length = (int.from_bytes(trailer[n : n + 4], "little") for n in (0, 4))
    return {"size": size} | ({"crc32": crc32} if length else {}) | {"sample": sample}


def identity_of_all(size: int, blocks: Iterable[bytes]) -> Identity:
    """Identity of a file that is not packed, from all of its bytes, block after block."""
    crc, hashed = 0, blake2b(digest_size=_HASH)
    for block in blocks:
        crc = isal_zlib.crc32(block, crc)
        hashed.update(block)
    return {"size": size, "crc32": crc, "sample": int.from_bytes(hashed.digest(), "little")}


def same_version(recorded: Mapping[str, int] | None, current: Mapping[str, int]) -> bool:
    """Whether a file that was recorded in a store is the file as it is now.

    Earlier stores have no samples: there, size and CRC-32 decide. A CRC-32 that tells nothing is
    not in `current`; the file then counts as another one, and is converted again once.
    """
    if recorded is None:
        return False
    if "sample" in recorded or "sample" not in current:
        return dict(recorded) == dict(current)
    return "crc32" in current and all(recorded.get(key) == current[key] for key in recorded)


def is_read_whole(path: str, size: int) -> bool:
    """Whether the identity of a file takes all of its bytes, because it is not packed."""
    return not path.endswith(".gz") and size <= WHOLE


def _is_blocked(head: bytes) -> bool:
    """Whether a gzip file begins as bgzip begins it, with the size of the member."""
    return len(head) == 18 and head[3] & 4 != 0 and head[12:14] == b"BC"


def _blocks(size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, size, _READ):
        yield start, min(start + _READ, size)


def _pieces(size: int, count: int) -> Iterator[tuple[int, int]]:
    """Spans of `count` pieces, evenly spread: the first and the last bytes are among them."""
    for number in range(count):
        start = number * (size - _PIECE) // (count - 1)
        yield start, start + _PIECE


def _sample(read: Read, spans: Iterator[tuple[int, int]]) -> int:
    return _hash(read(*span) for span in spans)


def _hash(blocks: Iterable[bytes]) -> int:
    hashed = blake2b(digest_size=_HASH)
    for block in blocks:
        hashed.update(block)
    return int.from_bytes(hashed.digest(), "little")
