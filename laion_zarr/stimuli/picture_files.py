"""Picture files: read only their bytes from the store, and decode them as displayed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from laion_zarr.arrays.lazy import LazyArray, digest
from laion_zarr.errors import SourceError
from laion_zarr.stimuli.decode import MOST_PIXELS, open_picture
from laion_zarr.stimuli.handle import StimuliHandle
from laion_zarr.store import codec
from laion_zarr.store.bounds.tables import check_positions, index_bytes
from laion_zarr.store.bounds.text import OutOfBounds
from laion_zarr.store.objects import damaged, fetch_spans
from laion_zarr.store.schema import IMAGES_PART, PICTURE_BYTES

if TYPE_CHECKING:
    from PIL import Image

# Grey level of the stimulus window, visible behind transparent pixels (PsychoPy's default).
_BACKGROUND = 128
_PICTURES_AT_ONCE = 8
_ROWS_AT_ONCE = 256
_COLUMNS = (
    "start",
    "nbytes",
    "crc32",
    "height",
    "width",
)  # read in concurrent requests

assert PICTURE_BYTES.chunking is not None
_CHUNK = PICTURE_BYTES.chunking.rows
_SHARD = _CHUNK * PICTURE_BYTES.chunking.per_shard
_STORED_CHUNK = _CHUNK + codec.CRC_BYTES


def _pieces(start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Byte range of the picture data -> (shard, first byte, last byte in the shard), by shard."""
    while start < end:
        shard, inside = divmod(start, _SHARD)
        stop = min(end, (shard + 1) * _SHARD)
        yield shard, _stored(inside), _stored(inside + stop - start - 1)
        start = stop


def _stored(position: int) -> int:
    """Offset in the shard of a byte of its picture data: a checksum follows each chunk."""
    return position // _CHUNK * _STORED_CHUNK + position % _CHUNK


def _without_checksums(data: np.ndarray, first: int) -> bytes:
    """Bytes read from a shard, starting at `first`, without the checksums between the chunks."""
    found = []
    position = 0
    left = _CHUNK - first % _STORED_CHUNK
    while position < len(data):
        found.append(data[position : position + left].tobytes())
        position += left + codec.CRC_BYTES
        left = _CHUNK
    return b"".join(found)


def read(handle: StimuliHandle, rows: np.ndarray | Sequence[int]) -> list[bytes]:
    """Read picture files concurrently; each file is checked against its own checksum.

    Parameters
    ----------
    handle : StimuliHandle
        The open stimuli.
    rows : sequence of int
        Rows of the images part.
    """
    path = f"{handle.part(IMAGES_PART).path}/{PICTURE_BYTES.name}"
    start, nbytes, crcs, *_ = _columns(handle)
    pieces = [
        (n, shard, first, last)
        for n, row in enumerate(rows)
        for shard, first, last in _pieces(int(start[row]), int(start[row]) + int(nbytes[row]))
    ]
    requests = [(f"{path}/c/{shard}", (first, last + 1)) for _, shard, first, last in pieces]
    found: list[list[bytes]] = [[] for _ in rows]
    answers = fetch_spans(handle.stored.store, requests)
    for (n, _, first, _), (key, _), data in zip(pieces, requests, answers, strict=True):
        if data is None:
            raise damaged(handle.stored.store, key, "is missing")
        found[n].append(_without_checksums(data, first))
    whole = [b"".join(parts) for parts in found]
    for row, file in zip(rows, whole, strict=True):
        if len(file) != int(nbytes[row]) or codec.crc32(file) != int(crcs[row]):
            shard = int(start[row]) // _SHARD
            name = handle.names(IMAGES_PART)[row]
            raise damaged(handle.stored.store, f"{path}/c/{shard}", f"has other bytes for {name}")
    return whole


def decode(handle: StimuliHandle, row: int, data: bytes) -> Image.Image:
    """Decode one picture file, in the colour mode that it is encoded in.

    Raises
    ------
    SourceError
        If the file cannot be decoded or has more than `MOST_PIXELS` pixels; the message names the
        image.
    """
    try:
        image = open_picture(data)
        image.load()
    except Exception as error:  # Pillow raises many exception types for damaged files
        raise SourceError(
            f"The picture {handle.names(IMAGES_PART)[row]!r} cannot be decoded: expected a JPEG or "
            f"PNG file of at most {MOST_PIXELS:,} pixels, found "
            f"{str(error) or type(error).__name__}. The store has it as the release's file; if "
            "that is damaged, download it again ('laion-zarr download-stimuli') and run "
            "'laion-zarr convert'. All other pictures can be read."
        ) from error
    return image


def sizes(handle: StimuliHandle) -> tuple[np.ndarray, np.ndarray]:
    """Height and width of each picture in pixels, 0 for a picture that cannot be decoded."""
    *_, height, width = _columns(handle)
    return height, width


def _columns(handle: StimuliHandle) -> list[np.ndarray]:
    """Where each picture lies among the bytes, its checksum, height and width."""
    found = list(handle.arrays(IMAGES_PART, _COLUMNS).values())
    start, nbytes, _, height, width = found
    shards = handle.part(IMAGES_PART).chunks(PICTURE_BYTES.name).values()
    held = sum(max(0, size - index_bytes(_SHARD // _CHUNK)) // _STORED_CHUNK for size in shards)
    with handle.stored.bounded(IMAGES_PART, "start"):
        # Each by itself first: their sum may have no 64 bits.
        if start.size and max(int(start.max()), int(nbytes.max())) > held * _CHUNK:
            raise OutOfBounds(f"has pictures beyond the {held * _CHUNK:,} bytes of all")
        if start.size and int((start + nbytes).max()) > held * _CHUNK:
            raise OutOfBounds(f"has pictures beyond the {held * _CHUNK:,} bytes of all")
    pixels = height.astype(np.int64) * width
    with handle.stored.bounded(IMAGES_PART, "height"):
        check_positions(np.concatenate([height, width, pixels]), MOST_PIXELS + 1, "a picture")
    return found


def displayed(image: Image.Image) -> Image.Image:
    """RGB as the subject saw it: transparent pixels over mid-grey, rounded to nearest."""
    from PIL import Image

    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    rgba = np.asarray(image.convert("RGBA"))
    mixed = np.empty((*rgba.shape[:2], 3), dtype=np.uint8)
    for lo in range(0, len(rgba), _ROWS_AT_ONCE):  # the numbers between take many times the memory
        some = rgba[lo : lo + _ROWS_AT_ONCE].astype(np.uint16)
        colour, alpha = some[..., :3], some[..., 3:]
        mixed[lo : lo + len(some)] = (colour * alpha + _BACKGROUND * (255 - alpha) + 127) // 255
    return Image.fromarray(mixed)


class LazyPictures(LazyArray):
    """Decoded pictures as displayed, (image, y, x, channel) uint8.

    Parameters
    ----------
    handle : StimuliHandle
        The open stimuli.
    rows : numpy.ndarray, (image,) int
        Row of each picture in the images part; a row may occur several times.
    size : tuple of int
        Height and width; a picture of another size is resized.
    """

    dtype = np.dtype("uint8")
    handle: StimuliHandle

    def __init__(self, handle: StimuliHandle, rows: np.ndarray, size: tuple[int, int]) -> None:
        super().__init__(handle, (len(rows), *size, 3))
        self.rows = rows

    def _read(self, *positions: np.ndarray) -> np.ndarray:
        images, *inside = positions
        out = np.empty([len(index) for index in positions], dtype=self.dtype)
        rows, repeats = np.unique(self.rows[images], return_inverse=True)
        sides = zip(inside, self.shape[1:], strict=True)
        whole = all(np.array_equal(index, np.arange(n)) for index, n in sides)
        for lo in range(0, len(rows), _PICTURES_AT_ONCE):
            some = rows[lo : lo + _PICTURES_AT_ONCE]
            for n, (row, data) in enumerate(zip(some, read(self.handle, some), strict=True), lo):
                pixels = self._pixels(row, data)
                out[repeats == n] = pixels if whole else pixels[np.ix_(*inside)]
        return out

    def _pixels(self, row: int, data: bytes) -> np.ndarray:
        from PIL import Image

        image = displayed(decode(self.handle, row, data))
        height, width = self.shape[1:3]
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.LANCZOS)
        return np.asarray(image)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (*super().__dask_tokenize__(), digest(self.rows))
