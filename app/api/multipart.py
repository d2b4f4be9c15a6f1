"""multipart/form-data as it comes in: parts and their bytes, one after the other, none of them held."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import msgspec
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header
from starlette.requests import ClientDisconnect, Request

from app.errors import BadRequest, FileTooLarge, NoFileUploaded

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_MOST_PARTS = 50
_EXTENDED_FILENAME = re.compile(rb";\s*filename\*=utf-8'[^';]*'([^\s;]+)", re.IGNORECASE)


class Part(msgspec.Struct, frozen=True):
    """The head of a part. `filename` is None for a plain field; `media_type` is as it was sent, or empty."""

    name: str
    filename: str | None
    media_type: str


async def read_parts(request: Request, most_bytes: int) -> AsyncIterator[Part | bytes]:
    """The parts of a form: each a `Part`, then its bytes in any number of pieces.

    Raises NoFileUploaded for a body of another kind, BadRequest for a broken one, FileTooLarge for one above
    `most_bytes` in all.
    """
    parser, events = _parser(request.headers.get("content-type", ""))
    announced, size = request.headers.get("content-length", ""), 0
    too_large = FileTooLarge(f"An upload may have {most_bytes / 1024 / 1024:g} MB in all; this one has more.")
    if announced.isdecimal() and int(announced) > most_bytes:
        raise too_large
    parts = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > most_bytes:
                raise too_large
            parser.write(chunk)
            for event in events:
                parts += isinstance(event, Part)
                if parts > _MOST_PARTS:
                    raise BadRequest(f"The form has more than {_MOST_PARTS} parts.")
                yield event
            events.clear()
        if parts and parser.state is not MultipartState.END:
            raise BadRequest("The form can't be read: it ends before its last boundary.")
    except ClientDisconnect:
        raise BadRequest("The connection ended before the body did.") from None
    except MultipartParseError as error:
        raise BadRequest(f"The form can't be read: {error}.") from None


def _parser(content_type: str) -> tuple[MultipartParser, list[Part | bytes]]:
    """The parser, and the list that it adds to."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
        raise NoFileUploaded("Please upload your file: as the part 'file' of a multipart/form-data body.")
    events: list[Part | bytes] = []
    headers: dict[str, bytes] = {}
    field, value = bytearray(), bytearray()

    def on_header_end() -> None:
        headers[field.decode("latin-1").lower()] = bytes(value)
        field.clear()
        value.clear()

    def on_headers_finished() -> None:
        events.append(_part(headers))
        headers.clear()

    callbacks: MultipartCallbacks = {
        "on_header_field": lambda data, start, end: field.extend(data[start:end]),
        "on_header_value": lambda data, start, end: value.extend(data[start:end]),
        "on_header_end": on_header_end,
        "on_headers_finished": on_headers_finished,
        "on_part_data": lambda data, start, end: events.append(bytes(data[start:end])),
    }
    return MultipartParser(boundary, callbacks), events


def _part(headers: dict[str, bytes]) -> Part:
    disposition = headers.get("content-disposition", b"")
    _, options = parse_options_header(disposition)
    filename = options.get(b"filename")
    if filename is None and (extended := _EXTENDED_FILENAME.search(disposition)):
        filename = unquote_to_bytes(extended[1])  # from clients that know no other way to say it in other scripts
    return Part(
        name=_text(options.get(b"name", b"")),
        filename=None if filename is None else _text(filename),
        media_type=_text(headers.get("content-type", b"")).partition(";")[0].strip().lower(),
    )


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
