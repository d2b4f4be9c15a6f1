"""A JSON answer as raw ASGI: its two messages, ready made."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from starlette.types import Receive, Scope, Send

Header = tuple[bytes, bytes]


_encoder = msgspec.json.Encoder()


class Answer:
    """A body of JSON, its status and more headers. Starlette's Response would look for what is never there."""

    __slots__ = ("_headers", "_status", "body")

    def __init__(self, body: bytes, headers: Iterable[Header] = (), status: int = 200) -> None:
        self.body = body
        self._status = status
        self._headers = [
            (b"content-type", b"application/json; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            *headers,
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self._status, "headers": self._headers})
        await send({"type": "http.response.body", "body": self.body})


def json_answer(body: object, status: int = 200) -> Answer:
    """A value as JSON."""
    return Answer(_encoder.encode(body), status=status)


def seconds(moment: float | None) -> int | None:
    """A time as answers show it: whole seconds since 1970, or null."""
    return None if moment is None else int(moment)


class NoContent:
    """An answer without a body: by default 204, which tells a browser's EventSource not to come back."""

    __slots__ = ("_headers", "_status")

    def __init__(self, headers: Iterable[Header] = (), status: int = 204) -> None:
        self._headers = list(headers)
        self._status = status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self._status, "headers": self._headers})
        await send({"type": "http.response.body", "body": b""})
