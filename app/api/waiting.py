"""A JSON answer that is still to come: its headers go out at once, and a space now and then keeps the connection alive.

Proxies and clients count silence. White space before a JSON value is JSON, and a run that has been accepted is answered
200 whatever becomes of it; so nothing stands against telling the head of the answer before its body is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from starlette.types import Receive, Scope, Send

from app.api.answer import Answer, Header
from app.api.sse import client_gone

_HEADERS = (
    (b"content-type", b"application/json; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx must not hold the spaces back
)
_SPACE = {"type": "http.response.body", "body": b" ", "more_body": True}


class WaitingAnswer:
    """Sends what `wait` gives. `over` is the answer for when it gives nothing: its body, status and headers.

    With `beat_s` the head is sent at once as 200, with a space, and one more space every so many seconds until the body
    is there. Without, nothing is sent before, and so `over` may have a status of its own. `ended` hears whether the
    client was still there for the answer.
    """

    def __init__(
        self,
        wait: Callable[[], Awaitable[bytes | None]],
        over: Answer,
        headers: Iterable[Header],
        beat_s: float,
        ended: Callable[[bool], None],
    ) -> None:
        self._wait = wait
        self._over = over
        self._headers = tuple(headers)
        self._beat_s = beat_s
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        waiting = asyncio.ensure_future(self._wait())
        gone = asyncio.ensure_future(client_gone(receive))
        answered = False
        try:
            if self._beat_s:
                await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS, *self._headers]})
                await send(_SPACE)  # some proxies pass no head on before there is a body
            while not (waiting.done() or gone.done()):
                await asyncio.wait({waiting, gone}, timeout=self._beat_s or None, return_when=asyncio.FIRST_COMPLETED)
                if self._beat_s and not (waiting.done() or gone.done()):
                    await send(_SPACE)
            if not gone.done():
                await self._answer(waiting.result(), scope, receive, send)
                answered = not gone.done()
        finally:
            waiting.cancel()
            gone.cancel()
            await asyncio.gather(waiting, gone, return_exceptions=True)
            self._ended(answered)

    async def _answer(self, body: bytes | None, scope: Scope, receive: Receive, send: Send) -> None:
        if self._beat_s:
            await send({"type": "http.response.body", "body": body or self._over.body, "more_body": False})
        elif body is None:
            await self._over(scope, receive, send)
        else:
            await Answer(body, self._headers)(scope, receive, send)
