"""What callers can ask for over HTTP, declared once: route, needed scope, and what the documents say of it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

import msgspec
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.auth import authenticate
from app.api.body import read_object
from app.domain.request import Caller
from app.domain.request import Scope as KeyScope
from app.errors import AtelierError, Forbidden, InvalidParam
from app.runs.publications import Publications

T = TypeVar("T")

Handler = Callable[[Request, Caller], Awaitable[ASGIApp]]

EVENT_STREAM = "text/event-stream"


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One verb at one path.

    `body`, `query` and `headers` are the structs that its handler reads the request into. `answers` says by status what
    comes back: a struct, or a media type for what is no JSON. `raises` are the errors of its own; those that any
    operation can answer with (the key, the body, the store) are not repeated.
    """

    method: str
    path: str
    handler: Handler
    scope: KeyScope
    summary: str
    body: type | None = None
    query: type | None = None
    headers: type | None = None
    answers: Mapping[int, type | str] = {}
    raises: tuple[type[AtelierError], ...] = ()


class Endpoint:
    """An operation behind the bearer check, as plain ASGI: what its handler returns may be an answer or a stream.

    Errors go up to the one place that renders them; Starlette's wrapper for functions would look out for them twice.
    """

    def __init__(self, operation: Operation, publications: Publications) -> None:
        self._operation = operation
        self._publications = publications

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = await authenticate(scope, self._publications)
        needed = self._operation.scope
        if needed not in caller.scopes:
            raise Forbidden(f"The key lacks the scope '{needed.value}', which {self._operation.summary.lower()} needs.")
        response = await self._operation.handler(Request(scope, receive), caller)
        await response(scope, receive, send)


def routes(operations: Iterable[Operation], publications: Publications) -> list[Route]:
    """Starlette's routes for the operations."""
    return [Route(each.path, Endpoint(each, publications), methods=[each.method]) for each in operations]


async def read_body(request: Request, kind: type[T], most_bytes: int) -> T:
    """The JSON body as a value of the type. Raises InvalidParam with the field, and what `read_object` raises."""
    return read_value(await read_object(request, most_bytes), kind)


def read_query(request: Request, kind: type[T]) -> T:
    """The query string as a value of the type; texts become numbers and so on. Raises InvalidParam with the field."""
    asked = dict(request.query_params) if request.scope["query_string"] else {}
    return read_value(asked, kind, strict=False)


def read_headers(request: Request, kind: type[T]) -> T:
    """The headers that the type names, as a value of it. Raises InvalidParam with the header."""
    names = [field.encode_name for field in msgspec.structs.fields(cast("type[msgspec.Struct]", kind))]
    found = {name: text for name in names if (text := request.headers.get(name))}
    return read_value(found, kind, strict=False)


def read_value(value: dict[str, Any], kind: type[T], *, strict: bool = True) -> T:
    """A decoded object as a value of the type. Raises InvalidParam with the field."""
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None


_AT = re.compile(r" - at `\$\.?([^`]*)`$")
_MISSING = re.compile(r"Object missing required field `(\w+)`")


def _invalid(text: str) -> InvalidParam:
    """msgspec's sentence with the field in front: `limit: expected int <= 100`."""
    missing = _MISSING.match(text)
    at = _AT.search(text)
    path = at[1] if at else ""
    if missing:
        field = f"{path}.{missing[1]}" if path else missing[1]
        return InvalidParam(f"{field} is required", params=field)
    said = (text[: at.start()] if at else text).replace("`", "")
    if not path:
        return InvalidParam(said)
    return InvalidParam(f"{path}: {said[0].lower()}{said[1:]}", params=path)
