"""What a worker is told, with nothing left open: which checkpoint, which size, which seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app import ids
from app.checkpoints.catalogue import Catalogue
from app.checkpoints.checkpoint import Checkpoint
from app.errors import CheckpointUnavailable, InvalidParam
from app.graph.execute import WorkerCall
from app.graph.tools.samplers import SCHEDULERS, choose_sampler
from app.runs.bounds import check_size, check_strength
from app.runs.fitting import Fitting
from app.runs.movement import Settled
from app.runs.settle_again import settled_again
from app.runs.sizes import painted_size, sides

_STEPS = 30
_SAMPLER = "dpmpp_2m"
_REFERENCE_WEIGHT = 0.35
_ADAPTED = frozenset(
    {"loras", "embeddings", "vae", "control_net", "control_image", "control_weight", "control_start", "control_end"}
    | {"reference", "reference_weight", "fit_size"}
    | {"hires_scale", "hires_strength", "hires_steps", "hires_upscaler", "variation_seed", "variation_strength"}
)
"""What is left in a step's inputs only as it was found."""


class SettleImages:
    """Settles the inputs of the tools that paint when a step is made, so that a second attempt paints the same picture.

    `stand_ins` are checkpoints for the models that other people's image tools ask for; see `Catalogue.stand_in`.
    Raises CheckpointUnavailable for a file that is not installed or can't be used, InvalidParam for values that no
    picture could come of together.
    """

    def __init__(self, catalogue: Catalogue, stand_ins: Mapping[str, str]) -> None:
        self._catalogue = catalogue
        self._stand_ins = stand_ins

    def __call__(self, call: WorkerCall) -> Settled:
        if call.work_class != "gpu":
            return Settled(dict(call.inputs), None)
        if "again" in call.arguments:
            return Settled(*settled_again(call, self._catalogue, self._stand_ins))
        lenient = bool(call.arguments.get("fits"))
        if "prompt" not in call.inputs and "image" not in call.inputs:
            name = self._checkpoint(call.inputs).name
            return Settled({**call.inputs, "model_name": name}, name)
        if "prompt" not in call.inputs:
            return Settled(_enlarging(call.inputs, Fitting(self._catalogue.adapters, None, lenient=lenient)), None)
        checkpoint = self._checkpoint(call.inputs)
        fitting = Fitting(self._catalogue.adapters, checkpoint.family, lenient=lenient)
        inputs = self._painting(call.inputs, checkpoint, fitting)
        if (lenient or call.inputs.get("fit_size")) and "width" in inputs and "height" in inputs:
            smaller = painted_size((inputs["width"], inputs["height"]), checkpoint.side)
            inputs |= {"painted_size": smaller} if smaller else {}
        check_size(inputs)
        return Settled(inputs | ({"left_out": fitting.left_out} if fitting.left_out else {}), checkpoint.name)

    def _painting(self, asked: Mapping[str, Any], checkpoint: Checkpoint, fitting: Fitting) -> dict[str, Any]:
        plain = {name: value for name, value in asked.items() if name not in _ADAPTED}
        inputs = {
            **plain,
            **_size(asked, checkpoint),
            "model_name": checkpoint.name,
            "steps": asked.get("steps") or checkpoint.steps or _STEPS,
            "guidance_scale": _or(asked.get("guidance_scale"), checkpoint.guidance_scale),
            "seed": _seed(asked.get("seed")),
            "scheduler": asked.get("scheduler") or _sampler(checkpoint),
            **_variation(asked),
            **_references(asked),
            **fitting.vae(asked.get("vae")),
            **fitting.loras(asked),
            **fitting.embeddings(asked["prompt"], asked.get("negative_prompt") or ""),
            **fitting.controls(asked),
        }
        if skip := asked.get("clip_skip") or checkpoint.clip_skip:
            inputs["clip_skip"] = skip
        if "strength" in inputs:
            check_strength(inputs["strength"], inputs["steps"], "strength")
        if "upscale" in inputs:
            inputs["upscaler"] = fitting.upscaler(asked.get("upscaler"), "upscaler", "lanczos")
        return inputs | _second_pass(asked, inputs["steps"], fitting)

    def _checkpoint(self, asked: Mapping[str, Any]) -> Checkpoint:
        if name := asked.get("model_name"):
            return self._catalogue.get(name)
        if name := asked.get("asked_model"):
            return self._catalogue.stand_in(name, self._stand_ins)
        return self._catalogue.default()


def _sampler(checkpoint: Checkpoint) -> str:
    """What its model card names, in whichever spelling. Raises CheckpointUnavailable."""
    choice = choose_sampler(checkpoint.sampler or _SAMPLER)
    if choice is None or choice.note:
        raise CheckpointUnavailable(
            f"The model card of {checkpoint.name!r} names a sampler {checkpoint.sampler!r}, which is not here. "
            f"There are: {', '.join(SCHEDULERS)}.",
            params="model_name",
        )
    return choice.scheduler


def _enlarging(asked: Mapping[str, Any], fitting: Fitting) -> dict[str, Any]:
    inputs = {**asked, "upscaler": fitting.upscaler(asked.get("upscaler"), "upscaler", "lanczos")}
    return inputs | ({"left_out": fitting.left_out} if fitting.left_out else {})


def _size(asked: Mapping[str, Any], checkpoint: Checkpoint) -> dict[str, int]:
    """A picture that is changed keeps its own size, which is known where its bytes are."""
    if "image" in asked:
        return {}
    width, height = sides(asked.get("aspect_ratio"), checkpoint.side)
    if "aspect_ratio" not in asked:
        width, height = checkpoint.width or width, checkpoint.height or height
    return {"width": asked.get("width") or width, "height": asked.get("height") or height}


def _variation(asked: Mapping[str, Any]) -> dict[str, Any]:
    strength = asked.get("variation_strength")
    if not strength:
        return {}
    return {"variation_seed": _seed(asked.get("variation_seed")), "variation_strength": strength}


def _references(asked: Mapping[str, Any]) -> dict[str, Any]:
    weight = asked.get("reference_weight")
    if not asked.get("reference"):
        if weight is not None:
            raise InvalidParam("reference_weight: there is no reference that it could weigh", params="reference_weight")
        return {}
    if "mask" in asked and asked["strength"] >= 1:
        said = "strength: at 1 the part that the mask shows begins as noise, and nothing of a reference is in it"
        raise InvalidParam(said, params="strength")
    return {"reference": asked["reference"], "reference_weight": _or(weight, _REFERENCE_WEIGHT)}


def _second_pass(asked: Mapping[str, Any], steps: int, fitting: Fitting) -> dict[str, Any]:
    scale = asked.get("hires_scale") or 1
    if scale == 1:
        return {}
    strength = _or(asked.get("hires_strength"), 0.5)
    own_steps = asked.get("hires_steps") or steps
    check_strength(strength, own_steps, "hires_strength")
    return {
        "hires_scale": scale,
        "hires_strength": strength,
        "hires_steps": own_steps,
        "hires_upscaler": fitting.upscaler(asked.get("hires_upscaler"), "hires_upscaler", "latent"),
    }


def _seed(asked: int | None) -> int:
    return ids.new_seed() if asked is None or asked == -1 else asked


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
