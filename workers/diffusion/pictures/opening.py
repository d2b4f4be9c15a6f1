"""Picture files of others → pictures as they are to be seen. No torch here: any process may look at one."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image as Picture
from PIL import ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base

from app.errors import NodeFailed

MOST_PIXELS = 100_000_000
"""Before it is decoded: 10,000 by 10,000, which takes 400 MB."""

KINDS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_FIRST_ON_ITS_SIDE = 5  # of EXIF's eight orientations


def opened(content: bytes, what: str = "image") -> Picture.Image:
    """A picture file as it is to be seen: turned as its EXIF says, the first frame of many.

    `what` names it in errors. Raises NodeFailed for what is no picture, is cut off, or is too large to decode.
    """
    with _explained(what):
        picture = _begun(content)
        picture.load()
        return ImageOps.exif_transpose(picture)


def seen_size(content: bytes, what: str = "image") -> tuple[int, int]:
    """Its width and height as it is to be seen, without decoding it. Raises NodeFailed."""
    with _explained(what):
        picture = _begun(content)
        width, height = picture.size
        return (height, width) if picture.getexif().get(Base.Orientation, 1) >= _FIRST_ON_ITS_SIDE else (width, height)


def _begun(content: bytes) -> Picture.Image:
    picture = Picture.open(io.BytesIO(content), formats=KINDS)
    if picture.width * picture.height > MOST_PIXELS:
        raise Picture.DecompressionBombError
    return picture


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Within, what Pillow raises becomes a sentence."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures; the limit here is our own
            yield
    except Picture.DecompressionBombError as error:
        said = f"The {what} is too large: a picture may have {MOST_PIXELS:,} pixels."
        raise NodeFailed(said, error_type="InvalidParam") from error
    except UnidentifiedImageError as error:
        said = f"The {what} is no picture that can be read ({', '.join(KINDS)})."
        raise NodeFailed(said, error_type="InvalidParam") from error
    except (OSError, ValueError, TypeError, SyntaxError, EOFError, RuntimeError) as error:
        raise NodeFailed(f"The {what} is a damaged picture: {error}.", error_type="InvalidParam") from error
