"""What else the header of a .safetensors file says: what its maker wrote into it, and where each tensor lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from app.checkpoints.header import is_pickled


def header_of(path: Path) -> dict[str, dict[str, Any]]:
    """Of a file whose header is known to be in order; nothing of what PyTorch saved. Raises OSError."""
    if is_pickled(path):
        return {}
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return msgspec.json.decode(file.read(length), type=dict[str, dict[str, Any]])


def metadata_of(path: Path) -> dict[str, str]:
    """The texts under `__metadata__`. Raises OSError."""
    return {name: str(text) for name, text in header_of(path).get("__metadata__", {}).items()}
