"""How llama.go's own client, in Go, reads a stream: its rules, line by line, without Go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

LONGEST_LINE = 512_000


class GoError(Exception):
    """What the client gives back as an error."""


def read_stream(body: bytes) -> Iterator[dict[str, Any]]:
    """The objects that the client's callback gets. A line that is too long ends the stream, and nobody hears why."""
    for line in body.split(b"\n"):
        if len(line) + 1 > LONGEST_LINE:
            return
        text = line.removesuffix(b"\r").removeprefix(b"data: ")
        finish = b"[DONE]" in text
        text = text.strip(b"[DONE]") if finish else text
        if text:
            yield _read(text)
        if finish:
            return


def _read(text: bytes) -> dict[str, Any]:
    try:
        said = json.loads(text)
    except ValueError as error:
        raise GoError(f"unmarshal: {error}") from None
    if not isinstance(said.get("error", ""), str):
        raise GoError("unmarshal: cannot unmarshal object into Go struct field .error of type string")
    if said.get("error"):
        raise GoError(said["error"])
    assert isinstance(said["created"], int)
    assert all(isinstance(choice["text"], str) for choice in said["choices"])
    return dict(said)


def content(piece: dict[str, Any]) -> str:
    """`GenerateResponse.Content()`."""
    return "".join(choice["text"] for choice in piece["choices"])


def is_done(piece: dict[str, Any]) -> bool:
    """`GenerateResponse.Done()`."""
    return any(choice["finish_reason"] for choice in piece["choices"])
