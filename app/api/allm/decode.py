"""ALLM.Serializer.from_json/2 for an ALLM.ImageRequest: what it takes, and the words in which it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from app.api.allm.errors import Undecodable
from app.api.allm.shapes import IMAGE, REQUEST, AllmRequestData
from app.api.pictures.given import decoded

ATOMS = frozenset(
    {"generate", "edit", "variation", "binary", "base64", "url", "file", "natural", "vivid", "transparent", "opaque"}
    | {"auto", "low", "standard", "high", "hd", "nil", "true", "false"}
)
"""Words that are some value of ALLM's somewhere. Any of them is decoded, and may yet be none that fits."""

_SOURCES = ("binary", "base64", "url", "file")
_FIELDS = frozenset(AllmRequestData.__struct_fields__)
_decoder = msgspec.json.Decoder()


class AllmPicture(msgspec.Struct, frozen=True):
    """An ALLM.Image that came. `content` are the bytes of a `binary` source, `value` is the text of any other."""

    source: str
    value: str = ""
    content: bytes = b""


class AllmRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An ALLM.ImageRequest, decoded but not yet validated: what is not right is here as it came.

    Elements of `input_images` and `mask` that are no images are as they came, too.
    """

    operation: Any = "generate"
    model: Any = None
    prompt: Any = None
    n: Any = 1
    size: Any = None
    quality: Any = None
    style: Any = None
    background: Any = None
    response_format: Any = "binary"
    input_images: Any = ()
    mask: Any = None
    options: Any = {}
    metadata: Any = {}


def decode(body: bytes) -> AllmRequest:
    """The request in a body: tagged, or its data alone. Raises Undecodable."""
    try:
        whole = _decoder.decode(body)
        if not isinstance(whole, dict):
            raise Undecodable(("format", "missing_type_tag"))
        return _request(_data(whole))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # lists in lists without end, too
        raise Undecodable(("json", "malformed")) from None


def _data(whole: dict[str, Any]) -> dict[str, Any]:
    """What is inside of the tag. An object that has nothing of a request is no bare one either."""
    tag = whole.get("__type__")
    if not isinstance(tag, str):
        if _FIELDS.isdisjoint(whole):
            raise Undecodable(("format", "missing_type_tag"))
        return whole
    if "data" not in whole:
        raise Undecodable(("data", "missing"))
    if not isinstance(whole["data"], dict):
        raise Undecodable(("data", "malformed_struct"))
    if tag != REQUEST:
        raise Undecodable(("format", "unknown_type_tag"))
    return dict(whole["data"])


def _request(given: Mapping[str, Any]) -> AllmRequest:
    """In the order in which ALLM decodes: the first failure is the one that is told."""
    get = given.get
    return AllmRequest(
        operation=_or(_atom(get("operation")), "generate"),
        model=get("model"),
        prompt=get("prompt"),
        n=_or(get("n"), 1),
        size=get("size"),
        quality=get("quality"),
        style=_atom(get("style")),
        background=_atom(get("background")),
        response_format=_or(_atom(get("response_format")), "binary"),
        input_images=_hydrated(_or(get("input_images"), [])),
        mask=_hydrated(get("mask")),
        options=_or(get("options"), {}),
        metadata=_or(get("metadata"), {}),
    )


def _or(value: Any, default: Any) -> Any:
    """Elixir's `||`."""
    return default if value is None or value is False else value


def _atom(value: Any) -> Any:
    if isinstance(value, str) and value not in ATOMS:
        _unknown_atom()
    return value


def _unknown_atom() -> NoReturn:
    raise Undecodable(("_unknown", "atom_decode_failed"))


def _hydrated(value: Any) -> Any:
    """Tagged images as such, in lists, too; anything else as it is."""
    if isinstance(value, list):
        return [_hydrated(each) for each in value]
    if isinstance(value, dict) and value.get("__type__") == IMAGE and isinstance(value.get("data"), dict):
        return _picture(value["data"].get("source")) or value
    return value


def _picture(source: Any) -> AllmPicture | None:
    """None without a source, where ALLM itself crashes."""
    if not isinstance(source, dict) or "type" not in source:
        return None
    kind, value = source["type"], source.get("value")
    if kind not in _SOURCES or not isinstance(value, str):
        _unknown_atom()
    if kind != "binary":
        return AllmPicture(kind, value=value)
    content = decoded(value)
    if content is None:
        raise Undecodable((["source"], "invalid_base64"), "invalid base64 in ALLM.Image source")
    return AllmPicture(kind, content=content)
