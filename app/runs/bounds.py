"""Values that no picture could come of together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.errors import InvalidParam
from app.runs.sizes import LARGEST


def check_strength(strength: float, steps: int, parameter: str) -> None:
    """Of so many steps only the part `strength` is painted: less than one would give the picture back as it is."""
    if strength and int(strength * steps) < 1:
        least = 1 / steps
        said = f"{parameter}: {strength:g} of {steps} steps leaves none to paint; at least {least:.2g}, or more steps"
        raise InvalidParam(said, params=parameter)


def check_size(inputs: Mapping[str, Any]) -> None:
    """Each pass multiplies the size. Where it is the picture's own, the worker checks it."""
    longest = max(inputs.get("width", 0), inputs.get("height", 0))
    for factor in ("hires_scale", "upscale"):
        longest = longest * inputs.get(factor, 1)
        if longest > LARGEST:
            said = f"{factor}: {longest:g} pixels is too wide or too high; a side may have {LARGEST}"
            raise InvalidParam(said, params=factor)
