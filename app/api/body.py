"""Reading what a client sent: JSON objects of a bounded size, and query parameters with a range."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request

from app.errors import BadRequest, BodyTooLarge, UnsupportedMediaType

_decoder = msgspec.json.Decoder()


async def read_object(request: Request, most_bytes: int) -> dict[str, Any]:
    """The body as a JSON object. Raises UnsupportedMediaType, BodyTooLarge or BadRequest."""
    content_type = request.headers.get("content-type", "")
    if content_type.split(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType(
            "Did not attempt to load JSON data because the request Content-Type was not 'application/json'."
        )
    try:
        value = _decoder.decode(await _read(request, most_bytes))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("Invalid JSON payload received or JSON payload is empty.") from None
    if not isinstance(value, dict):
        raise BadRequest(f"The JSON body must be an object, not {_json_name(value)}.")
    return value


async def _read(request: Request, most_bytes: int) -> bytes:
    too_large = f"The request body is larger than {most_bytes} bytes."
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > most_bytes:
        raise BodyTooLarge(too_large)
    body = b""
    try:
        async for chunk in request.stream():
            body = body + chunk if body else chunk  # nearly always there is but one
            if len(body) > most_bytes:
                raise BodyTooLarge(too_large)
    except ClientDisconnect:  # nobody hears this, but it is no failure of ours that it should be logged as one
        raise BadRequest("The connection ended before the body did.") from None
    return body


def _json_name(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case list():
            return "an array"
        case str():
            return "a string"
    return "a number"
