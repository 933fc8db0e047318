"""A picture's file -> Pillow's image: JPEG and PNG alone, whatever Pillow is set to."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

# A picture of the release has 10^6 pixels; one that unpacks to gigabytes is none.
MOST_PIXELS = 1 << 26
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"


def open_picture(data: bytes) -> Image.Image:
    """Open a picture's file; its header is read, its pixels are not decoded yet.

    Raises
    ------
    ValueError
        If it is neither JPEG nor PNG, or too large to be a picture. Pillow raises others.
    """
    # Not by Image.open: that tries formats which run programs, and its limits are the user's.
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    if data.startswith(_JPEG):
        image: Image.Image = JpegImageFile(BytesIO(data))
    elif data.startswith(_PNG):
        image = PngImageFile(BytesIO(data))
    else:
        raise ValueError(f"bytes {data[:8]!r}" if data else "nothing")
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise ValueError(f"{height:,} × {width:,} pixels")
    return image
