"""What the UNet of a Stable Diffusion 2 file predicts, noise or velocity. No header says it.

Training for velocity leaves one bias of the last attention block spread wider. The test and its threshold are ComfyUI's
(supported_models.py, SD20).
"""

from __future__ import annotations

import statistics
import struct
from pathlib import Path
from typing import Literal

from app.checkpoints.header import find_tensors
from app.checkpoints.kinds import UNET

Prediction = Literal["epsilon", "v_prediction"]

_TELLTALE = UNET + "output_blocks.11.1.transformer_blocks.0.norm1.bias"
_SPREAD = 0.09
_LETTERS = {"F16": "e", "F32": "f", "F64": "d"}


def prediction_of(path: Path) -> Prediction:
    """Of a file whose header is in order. Raises OSError. A file without the bias is of noise."""
    numbers = _numbers(path, _TELLTALE)
    return "v_prediction" if len(numbers) > 1 and statistics.stdev(numbers) > _SPREAD else "epsilon"


def _numbers(path: Path, name: str) -> list[float]:
    """A small tensor's numbers."""
    with path.open("rb") as file:
        tensor = find_tensors(file).get(name)
        if tensor is None or tensor.kind not in (*_LETTERS, "BF16") or len(tensor.shape) != 1:
            return []
        file.seek(tensor.start)
        content = file.read(tensor.span)
    if tensor.kind == "BF16":  # the upper half of a float
        content = b"".join(b"\0\0" + content[i : i + 2] for i in range(0, len(content), 2))
    letter = _LETTERS.get(tensor.kind, "f")
    return [number for (number,) in struct.iter_unpack(f"<{letter}", content)]
