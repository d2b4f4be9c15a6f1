"""How a stream's pieces are framed: by the exact Accept, as in llama.go, but as what they say they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from app.api.pictures.answers import Piece, length_of

LONGEST_LINE = 512_000
"""Bytes that the Go client reads of a line; what is longer ends its stream without a word."""

NDJSON = "application/x-ndjson"

Framing = Literal["lines", "events"]


def framing_of(accept: str) -> Framing:
    """Lines for who accepts nothing else, as the Go client; events of a stream for everybody else."""
    return "lines" if accept.strip().lower() == NDJSON else "events"


def fits(pieces: Iterable[Piece]) -> bool:
    """Whether the Go client can read the pieces as one line."""
    return sum(map(length_of, pieces)) + len("data: \n") <= LONGEST_LINE


def framed(pieces: list[Piece], framing: Framing) -> list[Piece]:
    """A piece of JSON as a frame."""
    return [*pieces, b"\n"] if framing == "lines" else [b"data: ", *pieces, b"\n\n"]


def done(framing: Framing) -> bytes:
    """What comes last. Each line is JSON, so lines just end."""
    return b"" if framing == "lines" else b"data: [DONE]\n\n"


def media_type(framing: Framing) -> bytes:
    return NDJSON.encode() if framing == "lines" else b"text/event-stream; charset=utf-8"
