"""What every request passes, as pure ASGI: ids for its log lines, a count of its answer, and errors in one place."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import clock, ids
from app.api.answer import Header
from app.errors import AtelierError
from app.logs import Subject, about, done
from app.tally import Tally

logger = logging.getLogger(__name__)

_OWN_ID = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")
# W3C trace context: version, trace id, parent id, flags. A later version may say more behind a dash.
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})(-|\Z)")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

Render = Callable[[AtelierError, Scope], Response]


class RequestIds:
    """Gives each request an id (its own, if `X-Request-Id` brings a decent one), answers with it, and guards the rest.

    A valid `traceparent` is kept for the log lines and for whatever work the request leaves behind. Answers are counted
    in `tally`, when there is one, by the route's template, never by what stood in the URL. An error that nobody raised
    on purpose is logged with the id and answered without a word of its inside. Every answer has the headers `always`,
    those below a prefix of `below` its headers, too.
    """

    def __init__(
        self,
        app: ASGIApp,
        render: Render,
        tally: Tally | None = None,
        always: Iterable[Header] = (),
        below: Mapping[str, Iterable[Header]] | None = None,
    ) -> None:
        self._app = app
        self._render = render
        self._tally = tally
        self._always = tuple(always)
        self._below = {prefix: (*self._always, *headers) for prefix, headers in (below or {}).items()}
        self._tells = logger.isEnabledFor(logging.DEBUG)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s, tally = clock.monotonic(), self._tally
        subject = _subject_of(scope)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = (b"x-request-id", subject.request.encode())
                message["headers"] = [*message.get("headers", ()), own, *self._headers(scope["path"])]
                if tally is not None:
                    method = scope["method"]
                    known = method if method in _METHODS else "other"
                    tally.answered(_template(scope), known, status, clock.monotonic() - began_s)
            await send(message)

        token = about(subject)
        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            logger.exception("request failed", extra={"action": "request_failed"})
            if status:
                return
            error = AtelierError(
                "The server encountered an internal error and was unable to complete your request. "
                f"Tell its keeper the request id {subject.request}."
            )
            await self._render(error, scope)(scope, receive, send_with_id)
        finally:
            if self._tells:
                seen = {"method": scope["method"], "route": _template(scope), "status": status}
                took_s = round(clock.monotonic() - began_s, 6)
                logger.debug("answered", extra={"action": "answered", **seen, "seconds": took_s})
            done(token)

    def _headers(self, path: str) -> tuple[Header, ...]:
        for prefix, headers in self._below.items():
            if path.startswith(prefix):
                return headers
        return self._always


def _subject_of(scope: Scope) -> Subject:
    request_id = traceparent = None
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _OWN_ID.match(asked := value.decode("latin-1")):
            request_id = asked
        elif name == b"traceparent":
            traceparent = read_traceparent(value.decode("latin-1"))
    return Subject(request=request_id or ids.new_id(), traceparent=traceparent)


def read_traceparent(text: str) -> str | None:
    """The trace context as version 00 has it; None when it is not valid. A later version's additions are dropped."""
    found = _TRACEPARENT.match(text)
    if found is None or (found[1] == "00" and found[3]):
        return None
    return f"00-{found[2]}"


def _template(scope: Scope) -> str:
    """The path of the route that took the request, as it is written in the program; `unmatched` for none."""
    route = scope.get("route")
    return getattr(route, "path", "unmatched") if route is not None else "unmatched"
