"""What came back: a text, or a file; and in which of the two a receiver's bytes are to be seen."""

from __future__ import annotations

import mimetypes
import re
from email.message import Message
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

import msgspec
from charset_normalizer import from_bytes

from app.outbound.fetch import Answer

_TEXTS = ("json", "xml", "javascript", "x-www-form-urlencoded", "yaml", "graphql")
_MARKS = (b"{", b"[", b"<", b"function", b"var ", b"const ", b"let ")
_FILES = ("application", "image", "audio", "video")
_SAMPLE = 1024  # bytes that tell a text from a file
_MIME_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")
_EXTENSION = re.compile(r"\.[a-z0-9]{1,10}")
_UNWANTED = re.compile(r'[\x00-\x1f\x7f/\\:"<>|*?]')


class Named(msgspec.Struct, frozen=True):
    """What a file is called. `filename` is empty when its sender gave none."""

    filename: str
    extension: str
    mime_type: str


def is_file(answer: Answer) -> bool:
    """Dify's reckoning: by what the sender says, and by a look at the bytes where that is not clear."""
    disposition = _disposition(answer)
    if disposition.get_content_disposition() == "attachment" or disposition.get_filename() is not None:
        return True
    kind = _mime_type(answer)
    if kind.startswith("text/") and "csv" not in kind:
        return False
    if kind.startswith("application/"):
        if any(name in kind for name in _TEXTS):
            return False
        looks = _looks_like_text(answer.body[:_SAMPLE])
        if looks is not None:
            return not looks
    guessed = mimetypes.guess_type("x" + (mimetypes.guess_extension(kind) or ""))[0] or kind
    return "/" in guessed and guessed.partition("/")[0] in _FILES


def _looks_like_text(sample: bytes) -> bool | None:
    """None when the bytes could be either."""
    try:
        sample.decode()
    except UnicodeDecodeError as error:
        if error.start < len(sample) - 3:  # else the sample cuts a character
            return False
    return True if any(mark in sample for mark in _MARKS) else None


def text_of(answer: Answer) -> str:
    """The body as text: in the charset that it announces, else UTF-8, else whichever fits best."""
    for charset in filter(None, (answer.charset, "utf-8-sig")):
        try:
            return answer.body.decode(charset)
        except (UnicodeDecodeError, LookupError):
            continue
    best = from_bytes(answer.body).best()
    return str(best) if best is not None else answer.body.decode("latin-1")


def named(answer: Answer) -> Named:
    """How the file is to be called: by its sender, else by its type and its URL."""
    given = _UNWANTED.sub("", PurePosixPath(_disposition(answer).get_filename() or "").name)[-200:].strip(". ")
    in_url = PurePosixPath(unquote(urlsplit(answer.url).path)).name
    mime_type = (
        mimetypes.guess_type(given)[0]
        or _mime_type(answer)
        or mimetypes.guess_type(in_url)[0]
        or "application/octet-stream"
    )
    extension = (PurePosixPath(given).suffix or mimetypes.guess_extension(mime_type) or "").lower()
    return Named(given, extension if _EXTENSION.fullmatch(extension) else ".bin", mime_type)


def _mime_type(answer: Answer) -> str:
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind if _MIME_TYPE.fullmatch(kind) else ""


def _disposition(answer: Answer) -> Message:
    message = Message()
    written = answer.headers.get("content-disposition", "")
    if written:
        message["content-disposition"] = written
    return message
