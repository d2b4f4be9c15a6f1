"""Reading what a client sent: JSON objects of a bounded size, and query parameters with a range."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request

from app.errors import BadRequest, BodyTooLarge, InvalidParam, UnsupportedMediaType

_decoder = msgspec.json.Decoder()

_INTEGER = re.compile(r"[+-]?[0-9]{1,9}", re.ASCII)
_MOST_PRIORITY = 1_000_000
_DURATION = re.compile(r"(?:([0-9]{1,6})h)?(?:([0-9]{1,8})m)?(?:([0-9]{1,9}(?:\.[0-9]{1,6})?)s?)?")
_LONGEST_S = 1e9  # a deadline beyond every run's own means nothing, and is no mistake


async def read_object(request: Request, most_bytes: int, *, any_type: bool = False) -> dict[str, Any]:
    """The body as a JSON object. Raises UnsupportedMediaType, BodyTooLarge or BadRequest.

    `any_type`: it is read as JSON whatever its Content-Type says, as servers in Go do.
    """
    content_type = request.headers.get("content-type", "")
    if not any_type and content_type.split(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType(
            "Did not attempt to load JSON data because the request Content-Type was not 'application/json'."
        )
    try:
        value = _decoder.decode(await read_bytes(request, most_bytes))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("Invalid JSON payload received or JSON payload is empty.") from None
    if not isinstance(value, dict):
        raise BadRequest(f"The JSON body must be an object, not {_json_name(value)}.")
    return value


async def read_bytes(request: Request, most_bytes: int) -> bytes:
    """The body as it came. Raises BodyTooLarge, and BadRequest when the connection ends before it does."""
    too_large = f"The request body is larger than {most_bytes} bytes."
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > most_bytes:
        raise BodyTooLarge(too_large)
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > most_bytes:
                raise BodyTooLarge(too_large)
            if chunk:
                chunks.append(chunk)
    except ClientDisconnect:  # nobody hears this, but it is no failure of ours that it should be logged as one
        raise BadRequest("The connection ended before the body did.") from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


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


def read_priority(text: str | None) -> int | None:
    """An `X-Priority` header. Raises InvalidParam unless it is a whole number between -1000000 and 1000000."""
    if text is None:
        return None
    if not _INTEGER.fullmatch(text.strip()) or abs(int(text)) > _MOST_PRIORITY:
        raise InvalidParam(
            f"X-Priority must be a whole number between -{_MOST_PRIORITY} and {_MOST_PRIORITY}, got '{text[:40]}'",
            params="X-Priority",
        )
    return int(text)


def read_deadline(text: str | None) -> float | None:
    """A `Cancel-After` header in seconds: `30`, `1.5`, `30s`, `5m`, `1h30m`. Raises InvalidParam below 1 s."""
    if text is None:
        return None
    found = _DURATION.fullmatch(text.strip()) if len(text) < 40 else None
    units = (3600.0, 60.0, 1.0)
    seconds = sum(float(part) * unit for part, unit in zip(found.groups(), units, strict=True) if part) if found else 0
    if not 1 <= seconds <= _LONGEST_S:
        raise InvalidParam(
            f"Cancel-After must be a time of 1 s or more, as 30, 30s, 5m or 1h30m, got '{text[:40]}'",
            params="Cancel-After",
        )
    return seconds


def shortest(*limits: float | None) -> float | None:
    """The shortest of the limits that there are."""
    return min((limit for limit in limits if limit is not None), default=None)
