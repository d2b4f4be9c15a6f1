"""The header of a .safetensors file: 8 bytes of little-endian length, then JSON of names, shapes and offsets.

A few milliseconds for a thousand tensors, whatever the size of the file; no tensor is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library itself

Shapes = dict[str, list[int]]


class Unreadable(Exception):
    """Not a whole .safetensors file. Its text completes a sentence that begins with the file's name."""


def tensor_shapes(path: Path) -> Shapes:
    """Name → shape of each tensor in the file. Raises Unreadable, also for a file that is cut short; OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise Unreadable(_what_it_is(start))
        text = file.read(length)
    try:
        entries: dict[str, dict[str, Any]] = msgspec.json.decode(text, type=dict[str, dict[str, Any]])
        entries.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        shapes = {name: [int(side) for side in entry["shape"]] for name, entry in entries.items()}
    except (msgspec.DecodeError, LookupError, TypeError, ValueError):
        raise Unreadable(_what_it_is(start)) from None
    if 8 + length + end != size:
        raise Unreadable(
            f"is cut short: {size:,} of {8 + length + end:,} bytes are there. Wait for the copy to end, or download "
            "it again."
            if size < 8 + length + end
            else "has more bytes than its header names, so it is damaged. Download it again."
        )
    return shapes


def _what_it_is(start: bytes) -> str:
    if not start:
        return "is empty. Download it again."
    if start.lstrip()[:1] == b"<":
        return "is a web page, not a checkpoint: the download wanted a login or another address. Download it again."
    if start.startswith(b"version "):
        return "is a Git LFS pointer, not the weights themselves. Fetch it with `git lfs pull`."
    if start.startswith((b"PK\x03\x04", b"\x80")):
        return "is a pickle file under a .safetensors name. Get the .safetensors version of it."
    return "is not a .safetensors file: its header can't be read. Download it again."
