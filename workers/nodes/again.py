"""A picture that was made again, beside the one that it was made after."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from PIL import Image as Picture
from PIL import UnidentifiedImageError

from app.artifacts.said import texts_of
from app.artifacts.store import ArtifactStore
from app.domain.recipe import differences, read_recipe
from app.graph.tools.recipe_text import preferred, read_said

SAME = "The same pixels."
_FORMATS = ("PNG", "JPEG", "WEBP")
_ROWS = 256  # that are compared at once: a whole picture of the largest size would take a gigabyte
_UNKNOWN: dict[str, Any] = {"same_pixels": None, "differing_pixels": None, "greatest_difference": None}
_SHARED = "The first one was not painted alone (exclusive): in company the last bits may be rounded otherwise."


def compared(again: Mapping[str, Any], made: bytes, notes: Sequence[str], artifacts: ArtifactStore) -> dict[str, Any]:
    """What the step's outputs say besides the picture.

    `same_pixels` is null where there is no first picture, or none that can be decoded. A difference may be without
    effect, so both are said.
    """
    was, _ = read_recipe(again["recipe"])
    now, _ = read_said(preferred(texts_of(io.BytesIO(made))))
    found = differences(was, now)
    picture, notes = again.get("picture"), list(notes)
    pixels = _pixels(artifacts.get(picture["sha256"]), made, notes) if picture else _UNKNOWN
    if pixels["same_pixels"] is False and was.is_ours and not was.exclusive and was.checkpoint is not None:
        notes.append(_SHARED)
    told = [msgspec.to_builtins(each) for each in found]
    return {"text": _sentence(pixels), **pixels, "differences": told, "notes": notes}


def _pixels(first: bytes, second: bytes, notes: list[str]) -> dict[str, Any]:
    """How far apart they are, decoded: a pixel differs where any of its three values does."""
    try:
        sizes = [_size(each) for each in (first, second)]
        if sizes[0] != sizes[1]:
            told = [f"{width} x {height}" for width, height in sizes]
            notes.append(f"The file has {told[0]} pixels, and the new picture {told[1]}.")
            return {**_UNKNOWN, "same_pixels": False}
        one, other = (_decoded(each) for each in (first, second))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Picture.DecompressionBombError) as error:
        notes.append(f"The picture in the file can't be decoded: {error}")
        return _UNKNOWN
    differing = greatest = 0
    for top in range(0, len(one), _ROWS):
        apart = np.abs(one[top : top + _ROWS].astype(np.int16) - other[top : top + _ROWS]).max(2)
        differing += int(np.count_nonzero(apart))
        greatest = max(greatest, int(apart.max()))
    return {"same_pixels": not differing, "differing_pixels": differing, "greatest_difference": greatest}


def _size(content: bytes) -> tuple[int, int]:
    """As the file says it, so that one of another size, however large, need not be decoded."""
    with Picture.open(io.BytesIO(content), formats=_FORMATS) as picture:
        return picture.size


def _decoded(content: bytes) -> np.ndarray:
    with Picture.open(io.BytesIO(content), formats=_FORMATS) as picture:
        return np.asarray(picture.convert("RGB"))


def _sentence(pixels: Mapping[str, Any]) -> str:
    if pixels["same_pixels"] is None:
        return "Nothing to compare it with."
    if pixels["same_pixels"]:
        return SAME
    if pixels["differing_pixels"] is None:
        return "Another size."
    return f"{pixels['differing_pixels']} pixels differ, by at most {pixels['greatest_difference']} of 255."
