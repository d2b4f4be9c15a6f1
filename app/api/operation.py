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
from app.domain.key import require_scope
from app.domain.request import Caller
from app.domain.request import Scope as KeyScope
from app.errors import AtelierError, BadRequest, InvalidParam, NotFound
from app.runs.publications import Publications

T = TypeVar("T")

Handler = Callable[[Request, Caller], Awaitable[ASGIApp]]
OpenHandler = Callable[[Request], Awaitable[ASGIApp]]

# A type for JSON, a media type for what is none, several where the request decides; for no body a sentence, or None.
Content = Any | str | tuple[Any | str, ...] | None

EVENT_STREAM = "text/event-stream"


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """One verb at one path, as the documents tell it.

    `body`, `query` and `headers` are the structs that its handler reads the request into; `form` says what the parts of
    a multipart body are, in place of JSON or as another way to send it. `answers` says by status what comes back.
    `raises` are the errors of its own; those that any operation can answer with (the key, the body, the store) are not
    repeated. `tag` is the chapter it stands in; empty: the path says. `error` is the shape of its errors; None: Dify's.
    """

    method: str
    path: str
    summary: str
    description: str = ""
    tag: str = ""
    error: type | None = None
    body: type | None = None
    form: type | None = None
    query: type | None = None
    headers: type | None = None
    answers: Mapping[int, Content] = {}
    raises: tuple[type[AtelierError], ...] = ()


class Operation(Described, frozen=True, kw_only=True):
    """What a key with the scope may ask for."""

    handler: Handler
    scope: KeyScope


class OpenOperation(Described, frozen=True, kw_only=True):
    """What everybody may ask for, without a key."""

    handler: OpenHandler


class OpenEndpoint:
    """An open operation as plain ASGI."""

    def __init__(self, operation: OpenOperation) -> None:
        self._handler = operation.handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._handler(Request(scope, receive))
        await response(scope, receive, send)


class Endpoint:
    """An operation behind the bearer check, as plain ASGI: what its handler returns may be an answer or a stream.

    Errors go up to the one place that renders them; Starlette's wrapper for functions would look out for them twice.
    """

    def __init__(self, operation: Operation, publications: Publications) -> None:
        self._operation = operation
        self._publications = publications

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = await authenticate(scope, self._publications)
        require_scope(caller, self._operation.scope, self._operation.summary)
        if "\0" in scope["path"]:  # no text in PostgreSQL has this character, so it can't be asked for one either
            raise NotFound("There is nothing with a NUL character in its name.")
        if b"%00" in scope["query_string"]:
            raise BadRequest("The query has a NUL character.")
        response = await self._operation.handler(Request(scope, receive), caller)
        await response(scope, receive, send)


class ByMethod:
    """The operations of one path that has several: one route, so that a 405 can list all of its methods."""

    def __init__(self, endpoints: Mapping[str, ASGIApp]) -> None:
        self._endpoints = {"HEAD": endpoints["GET"], **endpoints} if "GET" in endpoints else endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._endpoints[scope["method"]](scope, receive, send)


def routes(operations: Iterable[Operation | OpenOperation], publications: Publications) -> list[Route]:
    """Starlette's routes for the operations, in their order."""
    paths: dict[str, dict[str, ASGIApp]] = {}
    for each in operations:
        endpoint = Endpoint(each, publications) if isinstance(each, Operation) else OpenEndpoint(each)
        paths.setdefault(each.path, {})[each.method] = endpoint
    return [
        Route(path, *endpoints.values() if len(endpoints) == 1 else [ByMethod(endpoints)], methods=list(endpoints))
        for path, endpoints in paths.items()
    ]


def header_names(operations: Iterable[Described]) -> list[str]:
    """The headers that the operations read."""
    kinds = {each.headers for each in operations if each.headers is not None}
    return sorted({header_name(field.encode_name) for kind in kinds for field in msgspec.structs.fields(kind)})


def header_name(field: str) -> str:
    """`idempotency_key` or `idempotency-key` as people write it: `Idempotency-Key`."""
    return field.replace("_", "-").title()


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
