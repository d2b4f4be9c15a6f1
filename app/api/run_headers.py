"""The headers of a request for a run, the same in every dialect: how it is to be answered, repeated, ranked, ended."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.datastructures import Headers

from app.errors import InvalidParam

_INTERESTING = frozenset({b"idempotency-key", b"prefer", b"last-event-id", b"x-priority", b"cancel-after"})
_KEY = re.compile(r'"([\x21\x23-\x7e]{1,255})"|([\x21\x23-\x7e]{1,255})')
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\b")


class PictureHeaders(msgspec.Struct, frozen=True, rename="kebab"):
    """What a request for a run may say of it in every dialect."""

    idempotency_key: (
        Annotated[
            str,
            Meta(
                description="1 to 255 visible characters of your own: for 24 hours the same request gets the same run.",
                max_length=257,
            ),
        ]
        | None
    ) = None
    x_priority: Annotated[
        str | None, Meta(description="Runs with a higher one go first; at most the key's own.", examples=["2"])
    ] = None
    cancel_after: Annotated[
        str | None,
        Meta(
            description="Seconds, or a duration: a run that has not ended by then is stopped.", examples=["30", "1h30m"]
        ),
    ] = None


class RunHeaders(PictureHeaders, frozen=True, rename="kebab"):
    """How a request for a run wants to be answered. The dialects of pictures read no more of it than the above."""

    prefer: Annotated[
        str | None,
        Meta(description="respond-async: 202 at once. wait=10: at most 10 s of waiting.", examples=["respond-async"]),
    ] = None
    last_event_id: Annotated[
        str | None, Meta(description="With streaming: only events after this number.", examples=["3"])
    ] = None

    @classmethod
    def of(cls, headers: list[tuple[bytes, bytes]]) -> RunHeaders:
        """From the raw headers of a request; most have none of these."""
        found = [pair for pair in headers if pair[0] in _INTERESTING]
        if not found:
            return NO_HEADERS
        named = Headers(raw=found)
        return cls(*(named.get(name) for name in cls.__struct_encode_fields__))

    @property
    def is_async(self) -> bool:
        return self.prefer is not None and "respond-async" in self.prefer.lower()

    @property
    def wait_s(self) -> float:
        """How long the caller wants to wait at most; 0: it does not say."""
        found = _WAIT.search(self.prefer.lower()) if self.prefer else None
        return float(found[1]) if found else 0.0

    @property
    def after(self) -> int:
        """The number of the last event that the caller has. Raises InvalidParam."""
        return read_after(self.last_event_id, "Last-Event-ID")


NO_HEADERS = RunHeaders()


def read_after(text: str | None, name: str) -> int:
    """The number of an event; 0 without one. Raises InvalidParam."""
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidParam(f"{name} must be the id of an event of this run, got '{text[:40]}'", params=name)
    return int(text)


def read_idempotency_key(text: str | None) -> str | None:
    """An Idempotency-Key, in quotes as the draft has it or bare. Raises InvalidParam."""
    if text is None:
        return None
    found = _KEY.fullmatch(text.strip())
    if found is None:
        said = "Idempotency-Key must be 1 to 255 visible characters, with or without quotes around them"
        raise InvalidParam(said, params="Idempotency-Key")
    return found[1] or found[2]
