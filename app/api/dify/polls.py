"""Asking again how a run stands: entity tags, `304 Not Modified`, and answers that wait until there is news."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Annotated

import msgspec
from starlette.datastructures import Headers

from app import clock
from app.api.answer import Header
from app.domain.detail import Part
from app.events.standings import Standing

_CACHE_CONTROL = (b"cache-control", b"private, no-cache")  # keep it, but ask whether it is still true


class Conditional(msgspec.Struct, frozen=True, rename="kebab"):
    """What the client knows already."""

    if_none_match: Annotated[
        str | None, msgspec.Meta(description="The ETag of an earlier answer: 304 when there is no news.")
    ] = None

    @classmethod
    def of(cls, headers: Headers) -> Conditional:
        return cls(headers.get("if-none-match"))


class Poll:
    """One request for a run by a client that may know something of it, with the parts that it asks for besides."""

    def __init__(self, conditional: Conditional, parts: Collection[Part], files_access_timeout_s: float) -> None:
        self._known = conditional.if_none_match
        self._include = ",".join(sorted(parts))
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
        known = self._known or ""
        if known in (tag, "*"):
            return True
        opaque = tag.removeprefix("W/")
        return any(each.strip().removeprefix("W/") == opaque for each in known.split(","))
