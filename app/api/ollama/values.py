"""Go's values as text: durations, times, quoted names."""

from __future__ import annotations

import re
import time
from typing import Any

from app.errors import BadRequest
from app.graph.tools.image_parameters import MOST_KEEP_ALIVE_S

FOREVER = -1.0
"""A keep_alive_s without end."""

_LONGEST_NS = 2**63 - 1
_MOST_DIGITS = 19  # more are no nanoseconds of 64 bits
_UNITS = {"ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART = re.compile(r"([0-9]*)(?:(\.)([0-9]*))?([^0-9.]*)")
_GO_TYPES: dict[type, str] = {bool: "bool", dict: "map[string]interface {}", list: "[]interface {}"}


def read_keep_alive(given: Any) -> float | None:
    """Seconds of a `keep_alive`; negative: for ever, as whatever no run may ask for; None: nothing was said.

    Raises BadRequest with Go's sentence.
    """
    if given is None:
        return None
    if isinstance(given, str):
        seconds = duration_ns(given) / 1e9
    elif isinstance(given, int | float) and not isinstance(given, bool):
        seconds = float(max(-_LONGEST_NS, min(given, _LONGEST_NS)))  # JSON has integers that no float can be
    else:
        raise BadRequest(f"Unsupported type: '{_GO_TYPES[type(given)]}'")
    return seconds if 0 <= seconds <= MOST_KEEP_ALIVE_S else FOREVER


def duration_ns(text: str) -> int:
    """`1h30m`, `300ms`, `0`, `-1m`, as Go's `time.ParseDuration` has it. Raises BadRequest with its sentence."""
    sign, at = (-1 if text.startswith("-") else 1), int(text.startswith(("-", "+")))
    if text[at:] == "0":
        return 0
    total = 0
    while at < len(text):
        found = _PART.match(text, at)
        assert found is not None  # it matches anything
        digits, _, fraction, unit = found.groups()
        whole, part = digits.lstrip("0"), (fraction or "")[:_MOST_DIGITS]
        if not (digits or fraction) or len(whole) > _MOST_DIGITS:
            break
        if not unit:
            raise BadRequest(f"time: missing unit in duration {quoted(text)}")
        if unit not in _UNITS:
            raise BadRequest(f"time: unknown unit {quoted(unit)} in duration {quoted(text)}")
        total += int(whole or 0) * _UNITS[unit] + int(part or 0) * _UNITS[unit] // int(10 ** len(part))
        if total > _LONGEST_NS + (sign < 0):
            break
        at = found.end()
        if at == len(text):
            return sign * total
    raise BadRequest(f"time: invalid duration {quoted(text)}")


def quoted(text: str) -> str:
    """As Go's `%q` writes a text."""
    return '"' + "".join(map(_letter, text)) + '"'


_ESCAPES = {"\a": r"\a", "\b": r"\b", "\t": r"\t", "\n": r"\n", "\v": r"\v", "\f": r"\f", "\r": r"\r"}


def _letter(letter: str) -> str:
    if letter in '"\\':
        return "\\" + letter
    if letter.isprintable():
        return letter
    code = ord(letter)
    known = _ESCAPES.get(letter)
    return known or (rf"\x{code:02x}" if code < 0x80 else rf"\u{code:04x}" if code < 0x10000 else rf"\U{code:08x}")


def moment(at_ns: int) -> str:
    """Nanoseconds since 1970 as Go writes a time: UTC, without zeros at the end of the fraction."""
    seconds, rest = divmod(at_ns, 10**9)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + fraction + "Z"


def number(value: float) -> str:
    """As Go's `%v` and `%#v` write a number of JSON's."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e21 else repr(float(value))
