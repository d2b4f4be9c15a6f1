"""JSON as Go's standard library reads it, down to what it says of what it can't read: Ollama passes those sentences on.

The keys of an object fit a field whatever their case, unknown ones and nulls are passed over, and the first value is
all that counts: what stands behind it is not looked at.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec.structs import FieldInfo
from starlette.requests import Request

from app.api.body import read_bytes
from app.api.ollama.values import quoted
from app.errors import BadRequest

T = TypeVar("T", bound=msgspec.Struct)

_LONG = 256 * 1024
EMPTY = "missing request body"
_SPACE = b" \t\r\n"
_LITERALS = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}
_ESCAPED = b'"\\/bfnrtu'
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_NO_BASE64 = re.compile(rb"[^A-Za-z0-9+/\r\n]")
_NO_BREAK = re.compile(rb"[^\r\n]")
_HALF = re.compile("[\ud800-\udfff]")
_HEX = b"0123456789abcdefABCDEF"
_MOST_DIGITS = 400  # more are no number that a float can be
_decoder = json.JSONDecoder(parse_int=lambda text: int(text) if len(text) < _MOST_DIGITS else float(text))


async def read_body(request: Request, kind: type[T], most_bytes: int) -> T:
    """A request's body as a value of a struct: see `read_struct`. Raises BodyTooLarge, BadRequest.

    To find out what is wrong with a long one may take seconds, in which others are served.
    """
    body = await read_bytes(request, most_bytes)
    return read_struct(body, kind) if len(body) < _LONG else await asyncio.to_thread(read_struct, body, kind)


def read_json(body: bytes) -> Any:
    """The first value of a body. Raises BadRequest with Go's sentence."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        end = _Scanner(body).scan()  # says what is wrong; else it is what stands behind the value, or its letters
        return _whole(_decoder.decode(body[:end].decode("utf-8", "replace")))
    except (ValueError, RecursionError):
        raise BadRequest("invalid character '[' exceeded max depth") from None


def _whole(value: Any) -> Any:
    """JSON may have half a character, which no text has: Go puts another in its place."""
    if isinstance(value, str):
        return _HALF.sub("\ufffd", value)
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return {_whole(name): _whole(each) for name, each in value.items()} if isinstance(value, dict) else value


def read_struct(body: bytes, kind: type[T]) -> T:
    """The body as a value of a struct, with Go's zero values for what is not there. Raises BadRequest.

    A struct's fields are `str`, `bool`, `int` (of 32 bits), `bytes` (as base64), lists and dicts of these, or `Any`.
    """
    value = read_json(body)
    name = go_name(kind)
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise BadRequest(f"json: cannot unmarshal {_kind_of(value)} into Go value of type api.{name}")
    fields = _fields(kind)
    read: dict[str, Any] = {}
    for key, given in value.items():
        field = fields.get(key) or fields.get(key.lower())
        if field is not None and given is not None:
            read[field.name] = field.read(given, field.kind)
    return kind(**read)


def go_name(kind: type) -> str:
    """What Go calls the struct that ours stands for."""
    return kind.__name__.removeprefix("Ollama")


class _Field:
    """A field of a Go struct, which is what its sentences name."""

    def __init__(self, struct: str, field: FieldInfo) -> None:
        self.name = field.name
        self.kind = field.type
        self._place = f"{struct}.{field.encode_name}"

    def read(self, given: Any, kind: Any) -> Any:
        kind = _plain(kind)
        if kind is Any or given is None:
            return given
        if kind is bytes:
            return from_base64(given) if isinstance(given, str) else self._refuse(given, "[]uint8")
        if kind is int:
            is_whole = isinstance(given, int) and not isinstance(given, bool) and -(2**31) <= given < 2**31
            return given if is_whole else self._refuse(given, "int32")
        if kind is str:
            return given if isinstance(given, str) else self._refuse(given, "string")
        if kind is bool:
            return given if isinstance(given, bool) else self._refuse(given, "bool")
        origin, arguments = getattr(kind, "__origin__", kind), list(getattr(kind, "__args__", ()))
        if origin is dict:
            return given if isinstance(given, dict) else self._refuse(given, "map[string]interface {}")
        if not isinstance(given, list):
            return self._refuse(given, f"[]{_GO.get(_plain(arguments[0]), 'interface {}')}")
        return [self.read(each, arguments[0]) for each in given]

    def _refuse(self, given: Any, wanted: str) -> NoReturn:
        said = _kind_of(given)
        if said == "number" and wanted.startswith("int"):
            said = f"number {json.dumps(given)}"
        raise BadRequest(f"json: cannot unmarshal {said} into Go struct field {self._place} of type {wanted}")


@cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, _Field]:
    """By their names, and by these in small letters. Kept, as it takes a millisecond to find them out."""
    found = {field.encode_name: _Field(go_name(kind), field) for field in msgspec.structs.fields(kind)}
    return {name.lower(): field for name, field in found.items()} | found


_GO = {bytes: "api.ImageData", str: "string", dict: "api.Message"}


def _plain(kind: Any) -> Any:
    """The type itself of `Annotated[…]` and of what may be None."""
    while hasattr(kind, "__metadata__"):
        kind = kind.__origin__
    arguments = [each for each in getattr(kind, "__args__", ()) if each is not type(None)]
    is_optional = type(None) in getattr(kind, "__args__", ())
    return _plain(arguments[0]) if is_optional and len(arguments) == 1 else kind


def _kind_of(value: Any) -> str:
    match value:
        case bool():
            return "bool"
        case str():
            return "string"
        case dict():
            return "object"
        case list():
            return "array"
    return "number"


def from_base64(text: str) -> bytes:
    """Raises BadRequest with Go's sentence, which names the byte where the text is no base64."""
    plain = text.replace("\r", "").replace("\n", "")
    try:
        return base64.b64decode(plain, validate=True)
    except (binascii.Error, ValueError):
        at = _corrupt(text.encode("utf-8", "surrogatepass"))
        raise BadRequest(f"illegal base64 data at input byte {at}") from None


def _corrupt(source: bytes) -> int:
    """The byte that Go's decoder stops at."""
    found = _NO_BASE64.search(source)
    at = found.start() if found else len(source)
    in_group = (at - source.count(b"\n", 0, at) - source.count(b"\r", 0, at)) % 4
    if found is None:
        return len(source) - in_group
    if source[at] != ord("=") or in_group < 2:
        return at
    after = _behind(source, at + 1)
    if in_group == 2 and after < len(source):
        if source[after] != ord("="):
            return after - 1
        after = _behind(source, after + 1)
    return after


def _behind(source: bytes, at: int) -> int:
    """The next byte that is no line break; the end where there is none."""
    found = _NO_BREAK.search(source, at)
    return found.start() if found else len(source)


class _Scanner:
    """Goes through one JSON value as Go's does, to find what it says where it stops."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._at = 0

    def scan(self) -> int:
        """Where the first value ends. Raises BadRequest."""
        if self._peek() is None:
            raise BadRequest(EMPTY)
        self._value()
        return self._at

    def _peek(self) -> int | None:
        text = self._text
        while self._at < len(text) and text[self._at] in _SPACE:
            self._at += 1
        return text[self._at] if self._at < len(text) else None

    def _value(self) -> None:
        match self._peek():
            case 0x7B:
                self._members("}", self._member)
            case 0x5B:
                self._members("]", self._value)
            case 0x22:
                self._string()
            case byte if byte in _LITERALS:
                self._literal(_LITERALS[byte])
            case byte if byte is not None and byte in b"-0123456789":
                self._number()
            case _:
                self._stop("looking for beginning of value")

    def _members(self, end: str, one: Callable[[], None]) -> None:
        self._at += 1
        if self._peek() == ord(end):
            self._at += 1
            return
        while True:
            one()
            byte = self._peek()
            if byte not in (ord(end), ord(",")):
                self._stop("after object key:value pair" if end == "}" else "after array element")
            self._at += 1
            if byte == ord(end):
                return

    def _member(self) -> None:
        if self._peek() != ord('"'):
            self._stop("looking for beginning of object key string")
        self._string()
        if self._peek() != ord(":"):
            self._stop("after object key")
        self._at += 1
        self._value()

    def _string(self) -> None:
        self._at += 1
        while True:
            plain = _PLAIN.match(self._text, self._at)
            assert plain is not None  # it matches anything
            self._at = plain.end()
            byte = self._byte("in string literal")
            if byte < 0x20:
                self._stop("in string literal")
            self._at += 1
            if byte == ord('"'):
                return
            self._escape()

    def _escape(self) -> None:
        byte = self._byte("in string escape code")
        if byte not in _ESCAPED:
            self._stop("in string escape code")
        self._at += 1
        for _ in range(4 if byte == ord("u") else 0):
            if self._byte("in \\u hexadecimal character escape") not in _HEX:
                self._stop("in \\u hexadecimal character escape")
            self._at += 1

    def _literal(self, word: bytes) -> None:
        for byte in word:
            if self._byte("") != byte:
                self._stop(f"in literal {word.decode()} (expecting {_quoted(byte)})")
            self._at += 1

    def _number(self) -> None:
        found = _NUMBER.match(self._text, self._at)
        if found is None:  # a minus and nothing of a number
            self._at += 1
            self._stop("in numeric literal")
        else:
            self._at = found.end()
            rest = self._text[self._at : self._at + 2]
            if rest[:1] == b".":
                self._at += 1
                self._stop("after decimal point in numeric literal")
            if rest[:1] in (b"e", b"E"):
                self._at += 2 if rest[1:] in (b"+", b"-") else 1
                self._stop("in exponent of numeric literal")

    def _byte(self, where: str) -> int:
        if self._at >= len(self._text):
            self._stop(where)
        return self._text[self._at]

    def _stop(self, where: str) -> NoReturn:
        if self._at >= len(self._text):
            raise BadRequest("unexpected EOF")
        raise BadRequest(f"invalid character {_quoted(self._text[self._at])} {where}")


def _quoted(byte: int) -> str:
    """A byte as Go's `quoteChar` writes it."""
    if byte == ord("'"):
        return r"'\''"
    return "'\"'" if byte == ord('"') else f"'{quoted(chr(byte))[1:-1]}'"
