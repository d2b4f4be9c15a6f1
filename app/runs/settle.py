"""What a worker is told, with nothing left open: which checkpoint, which size, which seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from app import ids
from app.checkpoints.catalogue import Catalogue
from app.checkpoints.checkpoint import Checkpoint
from app.graph.execute import WorkerCall
from app.runs.movement import Settled

_REACH = 4
"""So many times the pixels that it was trained on a checkpoint still paints by itself."""


class SettleImages:
    """Settles the inputs of `text_to_image` when its step is made, so that a second attempt paints the same picture.

    `stand_ins` are checkpoints for the models that other people's image tools ask for; see `Catalogue.stand_in`.
    Raises CheckpointUnavailable for a checkpoint that is not installed or can't be used.
    """

    def __init__(self, catalogue: Catalogue, stand_ins: Mapping[str, str]) -> None:
        self._catalogue = catalogue
        self._stand_ins = stand_ins

    def __call__(self, call: WorkerCall) -> Settled:
        asked = call.inputs
        if call.work_class != "gpu":
            return Settled(dict(asked), None)
        checkpoint = self._checkpoint(asked)
        width, height = _sides(asked.get("aspect_ratio"), checkpoint.side)
        seed = asked.get("seed")
        inputs = {
            **asked,
            "model_name": checkpoint.name,
            "width": asked.get("width") or width,
            "height": asked.get("height") or height,
            "guidance_scale": _or(asked.get("guidance_scale"), checkpoint.guidance_scale),
            "seed": ids.new_seed() if seed is None or seed == -1 else seed,
        }
        painted = _painted_size(inputs, checkpoint.side) if call.arguments.get("fits") else None
        return Settled(inputs | ({"painted_size": painted} if painted else {}), checkpoint.name)

    def _checkpoint(self, asked: Mapping[str, Any]) -> Checkpoint:
        if name := asked.get("model_name"):
            return self._catalogue.get(name)
        if name := asked.get("asked_model"):
            return self._catalogue.stand_in(name, self._stand_ins)
        return self._catalogue.default()


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _sides(ratio: str | None, side: int) -> tuple[int, int]:
    """Width and height of the checkpoint's own number of pixels in a ratio `a:b`."""
    wide, _, high = (ratio or "1:1").partition(":")
    return _in_ratio(int(wide) / int(high), side, 64 if side >= 512 else 8)


def _painted_size(inputs: Mapping[str, Any], side: int) -> tuple[int, int] | None:
    """The checkpoint's own size in the asked ratio, where much more is asked for than it was trained on.

    A size that another provider's list has is out of reach for a small checkpoint: it would take minutes, and show the
    same thing many times over. None where the checkpoint paints what was asked.
    """
    width, height = inputs["width"], inputs["height"]
    if width * height <= _REACH * side * side:
        return None
    return _in_ratio(width / height, side, 8)


def _in_ratio(ratio: float, side: int, step: int) -> tuple[int, int]:
    root = math.sqrt(ratio)
    return max(step, round(side * root / step) * step), max(step, round(side / root / step) * step)
