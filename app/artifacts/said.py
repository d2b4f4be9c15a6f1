"""What a picture file says in words: PNG's text chunks, the EXIF of JPEG and WebP. No pixel is decoded."""

from __future__ import annotations

import struct
from typing import BinaryIO

from PIL import Image as Picture
from PIL import UnidentifiedImageError
from PIL.ExifTags import IFD, Base

from app.errors import InvalidParam

_FORMATS = ("PNG", "JPEG", "WEBP")
_LONGEST = 1024 * 1024  # characters of one text
_UNICODE, _ASCII = b"UNICODE\0", b"ASCII\0\0\0"


def texts_of(file: BinaryIO) -> dict[str, str]:
    """`parameters` and `atelier`, as far as the picture has them. Raises InvalidParam for what is no such picture.

    Whoever writes a file can write anything into it: Pillow bounds what a chunk may unpack to, and a text beyond a
    megabyte is passed over.
    """
    try:
        with Picture.open(file, formats=_FORMATS) as picture:
            found = dict(picture.info) if picture.format == "PNG" else _in_exif(picture)
    except Picture.DecompressionBombError:
        raise InvalidParam("The picture has too many pixels.", params="file") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, struct.error, EOFError, KeyError, TypeError):
        raise InvalidParam("This is no PNG, JPEG or WebP picture that can be read.", params="file") from None
    return {
        name: str(text)
        for name in ("parameters", "atelier")
        if isinstance(text := found.get(name), str) and len(text) <= _LONGEST
    }


def _in_exif(picture: Picture.Image) -> dict[str, str]:
    """The image description is ours if it is JSON; the user comment says its encoding in eight bytes."""
    exif = picture.getexif()
    described = exif.get(Base.ImageDescription)
    comment = exif.get_ifd(IFD.Exif).get(Base.UserComment)
    found = {}
    if isinstance(described, str) and described.startswith("{"):
        found["atelier"] = described
    if isinstance(comment, bytes):
        found["parameters"] = _decoded(comment)
    elif isinstance(comment, str):
        found["parameters"] = comment
    return found


def _decoded(comment: bytes) -> str:
    """The standard leaves the order of UTF-16's bytes open: A1111 writes the higher first, others the lower."""
    if comment.startswith(_UNICODE):
        raw = comment.removeprefix(_UNICODE)
        high_first, low_first = (raw.decode(name, "replace") for name in ("utf-16-be", "utf-16-le"))
        return low_first if "Steps:" in low_first else high_first
    return comment.removeprefix(_ASCII).decode("utf-8", "replace").strip("\0 ")
