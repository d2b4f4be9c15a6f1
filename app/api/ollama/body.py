"""Bodies as Ollama reads them: JSON whatever they are announced as, keys in any case, strangers among them unheard."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from app.api.body import read_bytes
from app.api.operation import read_value
from app.errors import BadRequest

T = TypeVar("T")

_decoder = msgspec.json.Decoder()


async def read_json(request: Request, most_bytes: int) -> dict[str, Any]:
    """The body's fields by their names in small letters; a null is a field that is not there.

    Raises BadRequest, BodyTooLarge.
    """
    body = await read_bytes(request, most_bytes)
    if not body.strip():
        raise BadRequest("missing request body")
    try:
        value = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"invalid JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadRequest(f"json: cannot unmarshal {_GO_NAMES.get(type(value), 'number')} into a request")
    return {name.lower(): each for name, each in value.items() if each is not None}


async def read_struct(request: Request, kind: type[T], most_bytes: int) -> T:
    """The same as a value of the type. Raises InvalidParam with the field, too."""
    return read_value(await read_json(request, most_bytes), kind)


_GO_NAMES = {list: "array", str: "string", bool: "bool", type(None): "null"}
