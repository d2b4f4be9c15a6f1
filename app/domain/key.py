"""What a key is given when it is made, and what a key that makes others may give."""

from __future__ import annotations

import re

import msgspec

from app.domain.request import CALLER_SCOPES, Caller, Scope
from app.errors import Forbidden, InvalidParam

PRIORITY = (-1000, 1000)
MOST_RUNS = 1_000_000
LONGEST_S = 10 * 365 * 86400
LONGEST_NAME = 200
OVERLAP_S = 86400
"""How long a rotated key goes on beside the new one, if nobody says."""

_DURATION = re.compile(r"([0-9]{1,9})([smhdw])\Z")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class KeyTerms(msgspec.Struct, frozen=True):
    """A key's name, what it may do, and how long. A limit of 0 is none; without `lasts_s` it doesn't expire."""

    name: str
    scopes: frozenset[Scope] = CALLER_SCOPES
    priority: int = 0
    max_active: int = 0
    max_queued: int = 0
    lasts_s: float | None = None


def require_within(terms: KeyTerms, caller: Caller) -> None:
    """A key gives no more than it has: scopes, priority, limits. Raises Forbidden with what is too much."""
    missing = in_order(terms.scopes - caller.scopes)
    if missing:
        raise Forbidden(f"The key lacks the scope '{missing[0]}' itself, so it can't give it to another.")
    if terms.priority > caller.priority:
        raise Forbidden(f"The key can't give a higher priority than its own, which is {caller.priority}.")
    for name in ("max_active", "max_queued"):
        own, given = getattr(caller, name), getattr(terms, name)
        if own and not 0 < given <= own:
            raise Forbidden(f"The key can't give a looser {name} than its own, which is {own}.")


def require_scope(caller: Caller, scope: Scope, what: str) -> None:
    """`what` is it that needs the scope, as the subject of a sentence. Raises Forbidden."""
    if scope not in caller.scopes:
        raise Forbidden(
            f"The key lacks the scope '{scope.value}', which {what[:1].lower()}{what[1:]} needs; "
            f"it has {', '.join(in_order(caller.scopes)) or 'none'}."
        )


def in_order(scopes: frozenset[Scope]) -> list[str]:
    """The scopes' names in the order in which they are always shown."""
    return [scope.value for scope in Scope if scope in scopes]


def read_scopes(text: str) -> frozenset[Scope]:
    """Scopes as people write them: `run,read`, or `all`. Raises InvalidParam."""
    if text.strip() == "all":
        return frozenset(Scope)
    known = [scope.value for scope in Scope]
    names = [name.strip() for name in text.split(",")]
    wrong = [name for name in names if name not in known]
    if wrong:
        raise InvalidParam(f"There is no scope {wrong[0]!r}: use {', '.join(known)} with commas between, or all.")
    return frozenset(map(Scope, names))


def read_duration(text: str) -> int:
    """Seconds, from a number with its unit: 90s, 15m, 24h, 30d, 8w. Raises InvalidParam."""
    found = _DURATION.match(text.strip())
    seconds = int(found[1]) * _UNIT_S[found[2]] if found else None
    if seconds is None or seconds > LONGEST_S:
        raise InvalidParam(
            f"{text!r} is no duration: use a number with s, m, h, d or w, such as 30d; 10 years at most."
        )
    return seconds
