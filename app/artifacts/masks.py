"""Telling a mask from a picture."""

from __future__ import annotations

import io

_MOST_PIXELS = 4096 * 4096
"""What is larger is not looked into."""


def is_mask_of(picture: bytes, other: bytes) -> bool:
    """Whether `other` shows which part of `picture` is meant.

    It is of its size, and transparent somewhere but not everywhere; or, without transparency, of nothing but black and
    white, and both. Blocks. What can't be read is no mask.
    """
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - only who sends two pictures waits for it

    try:
        with Image.open(io.BytesIO(picture)) as first, Image.open(io.BytesIO(other)) as second:
            if first.size != second.size or first.width * first.height > _MOST_PIXELS:
                return False
            if second.has_transparency_data:
                alpha = second.convert("RGBA").getchannel("A").getextrema()
                if alpha != (255, 255):
                    return alpha != (0, 0)
            channels = second.convert("RGB")
            grey = channels.convert("L")
            used = {value for value, count in enumerate(grey.histogram()) if count}
            return used == {0, 255}
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
