"""An event stream as raw ASGI: one small send loop a listener, ended by the last frame or by the client.

Frames come ready made, because Dify's framing is its own (the event's name is inside the JSON, a ping has no data)
and a library for standard SSE would have to be talked out of its ways; a raw loop also holds half of the memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from starlette.types import Receive, Scope, Send

from app.api.answer import Header

_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx must not hold events back
)


class EventStream:
    """A response that sends `frames` as they come. A client that leaves ends the stream, and nothing else."""

    def __init__(self, frames: AsyncIterator[bytes], headers: Iterable[Header]) -> None:
        self._frames = frames
        self._headers = [*_HEADERS, *headers]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        pump = asyncio.create_task(self._pump(send))
        gone = asyncio.create_task(client_gone(receive))
        try:
            await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not pump.done():
                pump.cancel()
            await asyncio.gather(pump, gone, return_exceptions=True)
        if not pump.cancelled():
            pump.result()

    async def _pump(self, send: Send) -> None:
        async for frame in self._frames:
            await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def client_gone(receive: Receive) -> None:
    """Returns when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
