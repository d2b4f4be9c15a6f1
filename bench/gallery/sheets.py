"""Pictures side by side on one sheet."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image as Picture

_GAP, _SHOWN = 8, 192  # px


def picture_of(content: bytes) -> Picture.Image:
    return Picture.open(io.BytesIO(content)).convert("RGB")


def png_of(picture: Picture.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def save_sheet(rows: Sequence[Sequence[Picture.Image]], path: Path, shown: int = _SHOWN) -> None:
    """All in the same size, each pixel as it is: nothing is smoothed."""
    width = max(map(len, rows)) * (shown + _GAP) - _GAP
    sheet = Picture.new("RGB", (width, len(rows) * (shown + _GAP) - _GAP), "white")
    for down, row in enumerate(rows):
        for right, picture in enumerate(row):
            place = (right * (shown + _GAP), down * (shown + _GAP))
            sheet.paste(picture.resize((shown, shown), Picture.Resampling.NEAREST), place)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(192, dither=Picture.Dither.NONE).save(path, optimize=True)
