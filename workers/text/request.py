"""What is asked of a language model, and what it says: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class ShownFile(msgspec.Struct, frozen=True):
    """A file that the model is to see. `detail` is how closely: low, high or auto."""

    filename: str
    mime_type: str
    content: bytes
    detail: str = "high"


class Turn(msgspec.Struct, frozen=True):
    """One message of the conversation; its files come before its text."""

    role: str
    text: str
    files: tuple[ShownFile, ...] = ()


class Function(msgspec.Struct, frozen=True):
    """A function that the model may call instead of saying something."""

    name: str
    description: str
    schema: Mapping[str, Any]


class TextRequest(msgspec.Struct, frozen=True):
    """`model` is the document's name; `parameters` are those of the document. `schema`: the answer is to be JSON."""

    model: str
    turns: tuple[Turn, ...]
    parameters: Mapping[str, Any]
    schema: Mapping[str, Any] | None = None
    function: Function | None = None


class Usage(msgspec.Struct, frozen=True):
    """Tokens, as the engine counts them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class Piece(msgspec.Struct, frozen=True):
    """What came next: a piece of the text, of the thinking, or of a call's arguments; at the end, how it went."""

    text: str = ""
    thought: str = ""
    call: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
