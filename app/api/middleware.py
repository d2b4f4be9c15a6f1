"""What every request passes, as pure ASGI: an id for its log lines, and errors that become responses in one place."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import ids
from app.errors import AtelierError

logger = logging.getLogger(__name__)

_OWN_ID = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")

Render = Callable[[AtelierError], Response]


class RequestIds:
    """Gives each request an id (its own, if `X-Request-Id` brings a decent one), answers with it, and guards the rest.

    An error that nobody raised on purpose is logged with the id and answered without a word of its inside.
    """

    def __init__(self, app: ASGIApp, render: Render) -> None:
        self._app = app
        self._render = render

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"), "")
        request_id = asked if _OWN_ID.match(asked) else ids.new_id()
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            logger.exception("request failed", extra={"action": "request_failed", "request": request_id})
            if started:
                return
            error = AtelierError(
                "The server encountered an internal error and was unable to complete your request. "
                f"Tell its keeper the request id {request_id}."
            )
            await self._render(error)(scope, receive, send_with_id)
