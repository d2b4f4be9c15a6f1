"""What a worker is told, with nothing left open: which checkpoint, which size, which seed."""

from __future__ import annotations

from app import ids
from app.checkpoints.catalogue import Catalogue
from app.graph.execute import WorkerCall
from app.runs.movement import Settled


class SettleImages:
    """Settles the inputs of `text_to_image` when its step is made, so that a second attempt paints the same picture.

    Raises CheckpointUnavailable for a checkpoint that is not installed or can't be used.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def __call__(self, call: WorkerCall) -> Settled:
        asked = call.inputs
        if call.work_class != "gpu":
            return Settled(dict(asked), None)
        name = asked.get("model_name")
        checkpoint = self._catalogue.get(name) if name else self._catalogue.default()
        seed = asked.get("seed")
        inputs = {
            **asked,
            "model_name": checkpoint.name,
            "width": asked.get("width") or checkpoint.side,
            "height": asked.get("height") or checkpoint.side,
            "guidance_scale": _or(asked.get("guidance_scale"), checkpoint.guidance_scale),
            "seed": ids.new_seed() if seed is None or seed == -1 else seed,
        }
        return Settled(inputs, checkpoint.name)


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
