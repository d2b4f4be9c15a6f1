"""How a picture is to be seen: a camera that was turned writes it on its side, and notes that in the file."""

from __future__ import annotations

import struct
from typing import BinaryIO

from PIL import Image as Picture
from PIL import UnidentifiedImageError
from PIL.ExifTags import Base

_FIRST_ON_ITS_SIDE = 5  # of EXIF's eight orientations
_FORMATS = ("JPEG", "WEBP")
_UNREADABLE = (UnidentifiedImageError, OSError, ValueError, SyntaxError, struct.error, EOFError, KeyError, TypeError)


def is_on_its_side(file: BinaryIO) -> bool:
    """Whether the EXIF of a JPEG or WebP file says that width and height are to be swapped. No pixel is decoded."""
    file.seek(0)
    try:
        with Picture.open(file, formats=_FORMATS) as picture:
            return bool(picture.getexif().get(Base.Orientation, 1) >= _FIRST_ON_ITS_SIDE)
    except (*_UNREADABLE, Picture.DecompressionBombError):
        return False
