"""What the maker of a .safetensors file wrote into its header beside the tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from app.checkpoints.header import MOST_HEADER_BYTES, is_pickled


class _Header(msgspec.Struct):
    said: dict[str, Any] = msgspec.field(name="__metadata__", default_factory=dict)


def metadata_of(path: Path) -> dict[str, str]:
    """The texts under `__metadata__`; none where they are not in order, or PyTorch saved the file. Raises OSError."""
    if is_pickled(path):
        return {}
    with path.open("rb") as file:
        length = min(int.from_bytes(file.read(8), "little"), MOST_HEADER_BYTES)
        try:
            said = msgspec.json.decode(file.read(length), type=_Header).said
        except (msgspec.DecodeError, RecursionError):
            return {}
    return {name: str(text) for name, text in said.items()}
