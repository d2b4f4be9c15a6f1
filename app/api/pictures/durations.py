"""Times as programs in Go write them."""

from __future__ import annotations

import re
from typing import Any

from app.errors import InvalidParam

_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")
_WHOLE = re.compile(rf"[+-]?(?:{_PART.pattern})+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")


def read_keep_alive(value: Any) -> float:
    """Seconds that a checkpoint stays in memory: a number, or a text such as `5m`, `1h30m`, `-1m`; negative: for ever.

    Raises InvalidParam in the words of Go.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        kinds = {bool: "bool", list: "[]interface {}", dict: "map[string]interface {}"}
        raise InvalidParam(f"Unsupported type: '{kinds.get(type(value), 'nil')}'", params="keep_alive")
    seconds = float(value) if isinstance(value, int | float) else _duration_s(value)
    return -1.0 if seconds < 0 else seconds


def _duration_s(text: str) -> float:
    if text in ("0", "+0", "-0"):
        return 0.0
    if not _WHOLE.fullmatch(text):
        wrong = "missing unit in" if _NUMBER.fullmatch(text) else "invalid"
        raise InvalidParam(f'time: {wrong} duration "{text[:40]}"', params="keep_alive")
    length = sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))
    return -length if text.startswith("-") else length
