"""Checks of the source files: whether they are those that the store was made from.

The rule is that of docs/store.md, written a second time: nothing is imported that wrote it.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from laion_zarr.store.causes import cause_of

_READ = 1 << 22


def difference(path: Path, recorded: Mapping[str, int]) -> str | None:
    """What is wrong with a source file of a part, as a clause; None if it is the recorded one."""
    try:
        size = path.stat().st_size
        packed = path.name.endswith(".gz")
        trailer = _bytes(path, max(0, size - 8), size) if packed else b""
        found = {"size": size}
        if "crc32" in recorded:
            found["crc32"] = int.from_bytes(trailer[:4], "little") if packed else _crc32(path)
        if "sample" in recorded:
            found["sample"] = _sample(path, _sampled(path, size, packed))
    except OSError as error:
        return f"cannot be read: {cause_of(error)}"
    if found != dict(recorded):
        return "is not the file that was converted. Run 'laion-zarr convert' to take the new one"
    if packed and "sample" not in recorded and not any(trailer[4:]):
        return (
            "may be another file than the one that was converted: its checksum, by which this "
            "store knows it, is that of an empty part. Run 'laion-zarr convert' to take it anew"
        )
    return None


def read_text_table(path: Path, separator: str) -> pd.DataFrame:
    """Read a table of the source with every value as text."""
    text = path.read_bytes()
    return pd.read_csv(io.BytesIO(text), sep=separator, dtype=str, keep_default_na=False)


def _sampled(path: Path, size: int, packed: bool) -> list[tuple[int, int]]:
    """Spans of a file whose bytes are its sample."""
    head = _bytes(path, 0, 18)
    bgzip = packed and len(head) == 18 and head[3] & 4 and head[12:14] == b"BC"
    if size <= 1 << 20 or (size <= 128 << 20 and (bgzip or not packed)):
        return [(0, size)]
    last = (8 if packed else 64) - 1
    starts = [number * (size - 4096) // last for number in range(last + 1)]
    return [(start, start + 4096) for start in starts]


def _bytes(path: Path, start: int, end: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(end - start)


def _crc32(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while data := file.read(_READ):
            crc = zlib.crc32(data, crc)
    return crc


def _sample(path: Path, spans: list[tuple[int, int]]) -> int:
    hashed = hashlib.blake2b(digest_size=6)
    with path.open("rb") as file:
        for start, end in spans:
            file.seek(start)
            while start < end and (data := file.read(min(_READ, end - start))):
                hashed.update(data)
                start += len(data)
    return int.from_bytes(hashed.digest(), "little")
