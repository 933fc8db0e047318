"""Picture file -> Pillow image: only JPEG and PNG, independent of Pillow's global settings."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

# A picture of the release has 10^6 pixels; a file that would decode to much more is refused.
MOST_PIXELS = 1 << 24
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"


def open_picture(data: bytes) -> Image.Image:
    """Open a picture file: read its header, do not decode its pixels yet.

    Raises
    ------
    ValueError
        If the file is neither JPEG nor PNG, or has more than `MOST_PIXELS` pixels. Pillow raises
        other exceptions for damaged files.
    """
    # Not by Image.open: it tries formats that start external programs, and users can change its
    # limits.
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
