"""Asking again how a run stands: entity tags, `304 Not Modified`, and answers that wait until there is news."""

from __future__ import annotations

import hashlib
from typing import Annotated

import msgspec
from starlette.requests import Request

from app import clock
from app.api.answer import Header
from app.events.standings import Standing

_CACHE_CONTROL = (b"cache-control", b"private, no-cache")  # keep it, but ask whether it is still true

Wait = Annotated[
    float,
    msgspec.Meta(
        ge=0,
        le=60,
        description="Seconds to wait for news: until the run differs from If-None-Match, or without one, has ended.",
    ),
]


class Poll:
    """One request for a run by a client that may know something of it.

    `include` is what of the run it asks for besides; of a run that goes on, that changes without a fact.
    """

    def __init__(self, request: Request, include: str, files_access_timeout_s: float) -> None:
        self._known = request.headers.get("if-none-match", "")
        self._include = include
        self._files_s = files_access_timeout_s / 2

    def is_news(self, standing: Standing) -> bool:
        """True when the client does not know this yet; without a tag, when it is the run's end."""
        return not self._knows(self.tag(standing)) if self._known else standing.is_over

    @property
    def may_be_told_nothing(self) -> bool:
        """True when there is an answer for no news: 304 needs a tag."""
        return bool(self._known)

    def headers(self, standing: Standing) -> tuple[Header, ...]:
        return ((b"etag", self.tag(standing).encode()), _CACHE_CONTROL)

    def tag(self, standing: Standing) -> str:
        """A weak tag, another one whenever the body would tell something new.

        File URLs are signed for a while: a run with files gets another tag in the middle of that, so that nobody is
        left with dead ones. What is included of a run that goes on (progress, timings) is new each second.
        """
        parts = [f"{standing.seq:x}"]
        if self._include:
            parts.append(hashlib.md5(self._include.encode(), usedforsecurity=False).hexdigest()[:8])
            if not standing.is_over:
                parts.append(f"{int(clock.time()):x}")
        if standing.is_over and (standing.has_files or self._include):
            parts.append(f"{int(clock.time() / self._files_s):x}")
        return f'W/"{".".join(parts)}"'

    def _knows(self, tag: str) -> bool:
        known = self._known
        if known == tag or known == "*":
            return True
        opaque = tag.removeprefix("W/")
        return any(each.strip().removeprefix("W/") == opaque for each in known.split(","))
