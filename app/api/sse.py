"""Event streams as raw ASGI: one small send loop a listener, ended by the last frame or by the client.

Frames come ready made, because Dify's framing is its own (the event's name is inside the JSON, a ping has no data)
and a library for standard SSE would have to be talked out of its ways; a raw loop also holds half of the memory.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Coroutine, Iterable
from contextlib import aclosing
from typing import TypeVar

from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from app import clock
from app.api.answer import Header
from app.api.connection import Connection, connection_of
from app.errors import AtelierError
from app.logs import about, done, subject

logger = logging.getLogger(__name__)

T = TypeVar("T")

_REST = "atelier.rest"

EVENT_STREAM = b"text/event-stream; charset=utf-8"
_HEADERS = (
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx must not hold events back
)


class EventStreams:
    """The open streams of one process, and those that have ended but were not taken yet.

    A client that takes nothing for `slow_s` loses its connection; what was written for it is bounded by the server's
    flow control until then.
    """

    def __init__(self, slow_s: float) -> None:
        self._slow_s = slow_s
        self._open: set[_Line] = set()

    def stream(
        self, frames: AsyncGenerator[bytes, None], headers: Iterable[Header] = (), media_type: bytes = EVENT_STREAM
    ) -> EventStream:
        return EventStream(self, frames, [(b"content-type", media_type), *headers])

    def line(self, connection: Connection) -> _Line:
        """A stream begins on this connection."""
        line = _Line(connection)
        self._open.add(line)
        return line

    async def watch(self) -> None:
        """Looks for clients that take nothing, until cancelled."""
        while True:
            await asyncio.sleep(min(1.0, self._slow_s / 4))
            self._look(clock.monotonic())

    def _look(self, now_s: float) -> None:
        for line in tuple(self._open):
            if line.is_done():
                self._open.discard(line)
            elif line.stuck_s(now_s) > self._slow_s:
                logger.warning("a listener takes nothing", extra={"action": "listener_dropped"})
                line.connection.abort()


class _Line:
    """What was sent to a listener, and whether its socket takes it."""

    __slots__ = ("_taken", "_taken_s", "connection", "has_ended", "sent")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.has_ended = False
        self.sent = 0
        self._taken = -math.inf
        self._taken_s = 0.0

    def is_done(self) -> bool:
        return self.has_ended and (self.connection.unsent == 0 or self.connection.is_lost)

    def stuck_s(self, now_s: float) -> float:
        """For how long something has waited and nothing was taken."""
        unsent = self.connection.unsent
        taken = self.sent - unsent
        if unsent == 0 or taken > self._taken:
            self._taken, self._taken_s = taken, now_s
        return now_s - self._taken_s


class StreamingApp(Starlette):
    """Starlette, but an event stream goes on where everything that led to it has been left.

    Middlewares, router and endpoint hold some six kilobytes for as long as they wait for an answer; they have no more
    to do with it once its head is sent.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(scope, receive, send)
        stream: EventStream | None = scope.pop(_REST, None)
        if stream is not None:
            await stream.go_on(scope, receive, send)


class EventStream:
    """A response that sends `frames` as they come. A client that leaves ends the stream, and nothing else.

    Its head is sent when it is called, the rest by the `StreamingApp` around it.
    """

    __slots__ = ("_frames", "_headers", "_streams", "_subject")

    def __init__(self, streams: EventStreams, frames: AsyncGenerator[bytes, None], headers: Iterable[Header]) -> None:
        self._streams = streams
        self._frames = frames
        self._headers = [*_HEADERS, *headers]
        self._subject = subject()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        scope[_REST] = self

    async def go_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """All that comes after the head."""
        token = about(self._subject)
        try:
            await unless_gone(scope, receive, self._pump(scope, send))
        except Exception:
            logger.exception("stream failed", extra={"action": "stream_failed"})
        finally:
            done(token)

    async def _pump(self, scope: Scope, send: Send) -> None:
        connection = connection_of(scope)
        line = None if connection is None else self._streams.line(connection)
        try:
            async with aclosing(self._frames) as frames:
                async for frame in frames:
                    if line is not None:
                        line.sent += len(frame)
                    await send({"type": "http.response.body", "body": frame, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            if line is not None:
                line.has_ended = True


def broken_off(run_id: str) -> AtelierError:
    """What a stream tells that fails in a way which nobody foresaw; to be called where it is caught, for the log."""
    logger.exception("stream failed", extra={"action": "stream_failed", "run": run_id})
    return AtelierError(
        "The stream can't go on, but the run does: read it by its id. The server's log has the request's id."
    )


async def client_gone(receive: Receive) -> None:
    """Returns when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(scope: Scope, receive: Receive, work: Coroutine[None, None, T]) -> T | None:
    """What the work gives; None when the client leaves first, and then the work is cancelled.

    It is done in the request's own task, which its connection cancels when it is lost: no task has to wait for that.
    """
    connection, task = connection_of(scope), asyncio.current_task()
    if connection is None or task is None:
        return await _unless_told(receive, work)
    if connection.is_closing:
        work.close()
        return None
    is_lost = False

    def lost() -> None:
        nonlocal is_lost
        if not is_lost:
            is_lost = True
            task.cancel()

    connection.on_lost = lost
    try:
        return await work
    except asyncio.CancelledError:
        if not is_lost or task.uncancel() > 0:
            raise
        return None
    finally:
        connection.on_lost = None


async def _unless_told(receive: Receive, work: Coroutine[None, None, T]) -> T | None:
    """The same under any ASGI server."""
    working, gone = asyncio.create_task(work), asyncio.create_task(client_gone(receive))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)
