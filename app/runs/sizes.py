"""How large a picture is painted where its size is left open, or is beyond what its checkpoint paints by itself."""

from __future__ import annotations

import math

from app.graph.tools.image_parameters import WIDEST

Size = tuple[int, int]
"""Pixels: width, height."""

STEP = 8
SMALLEST = 64
LARGEST = 8192
"""Pixels: no side of a finished picture is longer."""

_REACH = 4
"""So many times the pixels that it was trained on a checkpoint still paints by itself."""


def sides(ratio: str | None, side: int) -> Size:
    """Width and height of the checkpoint's own number of pixels in a ratio `a:b`."""
    wide, _, high = (ratio or "1:1").partition(":")
    return _in_ratio(int(wide) / int(high), side, 64 if side >= 512 else STEP)


def painted_size(size: Size, side: int) -> Size | None:
    """The checkpoint's own size in the ratio of `size`, where much more is asked for than it was trained on.

    A size that another provider's list has is out of reach for a small checkpoint: it would take minutes, and show the
    same thing many times over. None where the checkpoint paints what was asked.
    """
    return None if _is_in_reach(size, side) else _in_ratio(size[0] / size[1], side, STEP)


def size_of_change(picture: Size, width: int | None, height: int | None, side: int) -> Size:
    """How large a picture is when it is changed: as it is, or as far as the checkpoint reaches; or as asked.

    Of a size of which one side is asked for, the other follows from the picture's ratio.
    """
    own_width, own_height = picture
    if width and height:
        return width, height
    if width or height:
        factor = width / own_width if width else (height or own_height) / own_height
        return width or _whole(own_width * factor), height or _whole(own_height * factor)
    most = _REACH * side * side
    shrunk = min(1.0, math.sqrt(most / (own_width * own_height)), WIDEST / max(picture))
    return _whole(own_width * shrunk), _whole(own_height * shrunk)


def _is_in_reach(size: Size, side: int) -> bool:
    return size[0] * size[1] <= _REACH * side * side


def _whole(length: float) -> int:
    return min(WIDEST, max(SMALLEST, int(length + 0.5) // STEP * STEP))


def _in_ratio(ratio: float, side: int, step: int) -> Size:
    root = math.sqrt(ratio)
    return max(step, round(side * root / step) * step), max(step, round(side / root / step) * step)
