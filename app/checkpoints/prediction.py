"""What the UNet of a Stable Diffusion 2 file predicts, noise or velocity. No header says it.

Training for velocity leaves one bias of the last attention block spread three times as wide; the threshold between the
two is ComfyUI's (supported_models.py, SD20).
"""

from __future__ import annotations

import statistics
import struct
from pathlib import Path
from typing import Literal

from app.checkpoints.kinds import UNET
from app.checkpoints.metadata import header_of

Prediction = Literal["epsilon", "v_prediction"]

_TELLTALE = UNET + "output_blocks.11.1.transformer_blocks.0.norm1.bias"
_SPREAD = 0.09
_LETTERS = {"F16": "e", "F32": "f", "F64": "d"}


def prediction_of(path: Path) -> Prediction:
    """Of a .safetensors file whose header is in order. Raises OSError. A file without the bias is of noise."""
    numbers = _numbers(path, _TELLTALE)
    return "v_prediction" if len(numbers) > 1 and statistics.stdev(numbers) > _SPREAD else "epsilon"


def _numbers(path: Path, name: str) -> list[float]:
    """A small tensor's numbers."""
    entry = header_of(path).get(name)
    if entry is None:
        return []
    start, end = entry["data_offsets"]
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        file.seek(8 + length + start)
        content = file.read(end - start)
    if entry["dtype"] == "BF16":  # the upper half of a float
        content = b"".join(b"\0\0" + content[i : i + 2] for i in range(0, len(content), 2))
        return [number for (number,) in struct.iter_unpack("<f", content)]
    letter = _LETTERS.get(entry["dtype"])
    return [number for (number,) in struct.iter_unpack(f"<{letter}", content)] if letter else []
