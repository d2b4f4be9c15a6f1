"""How one provider's parameters become the arguments of our own tools: a sketch of a picture, and a role for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from app.errors import InvalidParam
from app.graph.selectors import text_of
from app.graph.tools.image_tools import IMAGE_TO_IMAGE, INPAINT, OWN_IMAGE_TOOLS
from app.graph.tools.parameters import Call, Tool, ToolParameter, check_argument, check_arguments
from app.graph.tools.samplers import choose_sampler, known_samplers
from app.graph.tools.text_to_image import TEXT_TO_IMAGE
from app.graph.tools.weighted import Weighted, named_loras
from app.graph.values import Value

Size = tuple[int, int]
"""Pixels: width, height."""

SIDE_STEP = 8
_MOST_STEPS = 150
_PARAMETERS: Mapping[str, ToolParameter] = {each.name: each for own in OWN_IMAGE_TOOLS for each in own.parameters}


class Sketch:
    """The arguments of one of our tools in the making: of which, what was put into it says.

    `model` is a name that may mean nothing here. `denoise` is ComfyUI's strength, which counts its steps otherwise.
    `lora_names` and `lora_weights` belong together by their keys. `first_pass` is how large the first of two passes is,
    as a part of the picture's sides; or `hires_width` how wide the second is.
    """

    def __init__(self, model: str = "") -> None:
        self.arguments: dict[str, Any] = {}
        self.model = model
        self.aspect_ratio = ""
        self.sampler = ""
        self.spacing = ""
        self.denoise: float | None = None
        self.first_pass = 0.5
        self.hires_width = 0
        self.lora_names: dict[int, Weighted] = {}
        self.lora_weights: dict[int, float] = {}
        self.notes: list[str] = []

    def put(self, argument: str, name: str, value: Value) -> None:
        """Raises InvalidParam, in the name that the provider has for the argument."""
        checked = check_argument(parameter_of(argument, name=name), value)
        if checked is not None:
            self.arguments[argument] = checked

    def note(self, text: str) -> None:
        if text and text not in self.notes:
            self.notes.append(text)

    def choose_sampler(self) -> None:
        """Sampler and spacing are one choice here. Raises InvalidParam for a sampler that nobody knows."""
        if not self.sampler:
            return
        choice = choose_sampler(self.sampler, self.spacing)
        if choice is None:
            raise InvalidParam(f"Sampler {short(self.sampler)} does not exist. Valid samplers are {known_samplers()}.")
        self.arguments["scheduler"] = choice.scheduler
        self.note(choice.note)

    def call(self) -> Call:
        """Raises InvalidParam for a set of arguments that is not complete.

        The size was meant for another model: ours may paint its own, and enlarge it (`fits`).
        """
        tool = self._tool()
        arguments = self._finished()
        known = {name: value for name, value in arguments.items() if tool.parameter(name) is not None}
        inputs = check_arguments(tool, known)
        if self.model:
            inputs["asked_model"] = self.model
        if self.aspect_ratio and "width" not in inputs and "image" not in inputs:
            inputs["aspect_ratio"] = self.aspect_ratio
        left_out = {"left_out": tuple(self.notes)} if self.notes else {}
        return Call(inputs, {"fits": True, **left_out})

    @property
    def loras(self) -> tuple[str, ...]:
        """Raises InvalidParam where a prompt names one in a way that nobody could mean."""
        return named_loras(self._finished())

    def _tool(self) -> Tool:
        if "image" not in self.arguments:
            return TEXT_TO_IMAGE
        return INPAINT if "mask" in self.arguments else IMAGE_TO_IMAGE

    def _finished(self) -> dict[str, Any]:
        """The arguments with what several parameters say together."""
        finished = dict(self.arguments)
        if self.lora_names:
            finished["loras"] = ", ".join(
                named.with_weight(self.lora_weights.get(at)).text for at, named in self.lora_names.items()
            )
        if self.denoise is not None:
            finished["strength"] = self.denoise
            steps = finished.get("steps")
            if steps and 0 < self.denoise < 1:  # ComfyUI paints all the steps that it is given
                finished["steps"] = min(_MOST_STEPS, int(steps / self.denoise))
        if "hires_scale" in finished:
            return finished
        if self.hires_width:
            return finished | {"hires_scale": max(1, self.hires_width / finished.get("width", self.hires_width))}
        if "hires_upscaler" in finished and {"width", "height"} <= finished.keys():
            width, height = (_part(finished[side], self.first_pass) for side in ("width", "height"))
            return finished | {"hires_scale": finished["width"] / width, "width": width, "height": height}
        finished.pop("hires_strength", None)
        return finished


def _part(length: int, share: float) -> int:
    return max(64, round(length * share / SIDE_STEP) * SIDE_STEP)


class Taken(msgspec.Struct, frozen=True):
    """A parameter as its provider has it, with what it is for us. `sizes` are the names that stand for pixels."""

    name: str
    role: Role
    default: Value = None
    sizes: Mapping[str, Size] = {}
    options: tuple[str, ...] = ()
    required: bool = False


Role = Callable[[Sketch, Taken, Value], None]
"""Writes a value, never null, into a sketch. Raises InvalidParam."""


def parameter_of(argument: str, **changed: Any) -> ToolParameter:
    """Our own parameter, as a provider has it."""
    return msgspec.structs.replace(_PARAMETERS[argument], **changed)


def short(value: Value) -> str:
    text = text_of(value)
    return text if len(text) <= 60 else text[:57] + "..."
