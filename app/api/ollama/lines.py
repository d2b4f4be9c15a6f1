"""Answers of one JSON object a line, sent as they come, in the letters of ASCII: clients cut lines at others, too."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.answer import Answer
from app.api.ollama.errors import told
from app.api.sse import unless_gone
from app.errors import AtelierError

logger = logging.getLogger(__name__)

Line = Mapping[str, Any]


def encoded(value: Line) -> bytes:
    """As a line without its end."""
    return json.dumps(value, separators=(",", ":")).encode()


class Lines:
    """An answer as it comes. What is wrong before the first line is an ordinary error, later it is the last line.

    A client that leaves ends the lines, and nothing else.
    """

    def __init__(self, lines: AsyncGenerator[Line, None]) -> None:
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await unless_gone(scope, receive, self._send(send))

    async def _send(self, send: Send) -> None:
        async with aclosing(self._lines) as lines:
            first = await anext(lines)
            headers = [(b"content-type", b"application/x-ndjson"), (b"x-accel-buffering", b"no")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await _send_line(send, first)
            try:
                async for line in lines:
                    await _send_line(send, line)
            except AtelierError as error:
                await _send_line(send, {"error": told(error)[1]})
            except Exception:
                logger.exception("stream failed", extra={"action": "stream_failed"})
                await _send_line(send, {"error": "Internal server error"})
        await send({"type": "http.response.body", "body": b""})


async def _send_line(send: Send, line: Line) -> None:
    await send({"type": "http.response.body", "body": encoded(line) + b"\n", "more_body": True})


async def answered(lines: AsyncGenerator[Line, None], *, stream: bool) -> ASGIApp:
    """The lines as they come; else the last of them, or the error that they end with."""
    return Lines(lines) if stream else Answer(encoded(await _last(lines)))


async def _last(lines: AsyncIterator[Line]) -> Line:
    last: Line = {}
    async for line in lines:
        last = line
    return last
