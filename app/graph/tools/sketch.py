"""How one provider's parameters become the arguments of text_to_image: a role for each parameter."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any

import msgspec

from app.errors import InvalidParam
from app.graph.selectors import text_of
from app.graph.tools.parameters import Call, Review, ToolParameter, check_argument, check_arguments
from app.graph.tools.samplers import choose_sampler, known_samplers
from app.graph.tools.text_to_image import TEXT_TO_IMAGE
from app.graph.values import Value

Size = tuple[int, int]
"""Pixels: width, height."""

_PIXELS = re.compile(r"\s*([0-9]{2,5})\s*[x×X*]\s*([0-9]{2,5})\s*")
_RATIO = re.compile(r"\s*([0-9]{1,2})\s*[:x/]\s*([0-9]{1,2})\s*")
_LORA = re.compile(r"<lora:([^:>]*)[^>]*>,?\s*")
_SIDE_STEP = 8
_FLATTEST = 4  # times as wide as it is high, or the other way round
_SEEDS = 2**53
_AUTO = frozenset({"auto", "automatic", "custom", "none"})


class Sketch:
    """The arguments of text_to_image in the making. `model` is a name that may mean nothing here."""

    def __init__(self, model: str = "") -> None:
        self.arguments: dict[str, Any] = {}
        self.model = model
        self.aspect_ratio = ""
        self.sampler = ""
        self.spacing = ""
        self.notes: list[str] = []

    def put(self, argument: str, name: str, value: Value) -> None:
        """Raises InvalidParam, in the name that the provider has for the argument."""
        checked = check_argument(_parameter(argument, name=name), value)
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
            raise InvalidParam(f"Sampler {_short(self.sampler)} does not exist. Valid samplers are {known_samplers()}.")
        self.arguments["scheduler"] = choice.scheduler
        self.note(choice.note)

    def call(self) -> Call:
        """Raises InvalidParam for a set of arguments that is not complete.

        The size was meant for another model: ours may paint its own, and enlarge it (`fits`).
        """
        inputs = check_arguments(TEXT_TO_IMAGE, self.arguments)
        if self.model:
            inputs["asked_model"] = self.model
        if self.aspect_ratio and "width" not in inputs:
            inputs["aspect_ratio"] = self.aspect_ratio
        left_out = {"left_out": tuple(self.notes)} if self.notes else {}
        return Call(inputs, {"fits": True, **left_out})


class Taken(msgspec.Struct, frozen=True):
    """A parameter as its provider has it, with what it is for us. `sizes` are the names that stand for pixels."""

    name: str
    role: Role
    default: Value = None
    sizes: Mapping[str, Size] = {}
    options: tuple[str, ...] = ()
    required: bool = False

    def is_open(self, value: Value) -> bool:
        """True for a value that says nothing, so that the default is taken; an empty text may be what is meant."""
        return value is None or value == [] or (value == "" and self.role not in (*PROMPTS, negative_prompt))


Role = Callable[[Sketch, Taken, Value], None]
"""Writes a value, never null, into a sketch. Raises InvalidParam."""


class ImageTool(msgspec.Struct, frozen=True):
    """A text-to-image tool of somebody else, painted by our engine.

    `model` is asked for where a call names none. `tells_images`: the service's answer, which Dify gives as `json`,
    lists its pictures by their URLs, and workflows read them there.
    """

    provider: str
    name: str
    parameters: tuple[Taken, ...]
    model: str = ""
    tells_images: bool = False
    work_class: str = "gpu"

    @property
    def required(self) -> frozenset[str]:
        return frozenset(parameter.name for parameter in self.parameters if parameter.required)

    def call(self, values: Mapping[str, Any]) -> Call:
        """The call of text_to_image that paints what was asked. Raises InvalidParam."""
        sketch = Sketch(self.model)
        for parameter in self.parameters:
            draw(sketch, parameter, values.get(parameter.name))
        sketch.choose_sampler()
        return sketch.call()

    def review(self, constants: Mapping[str, Any], written: Iterable[str], is_typed: bool) -> Review:
        """The same for what a document fixes. A parameter that is not known is left out, as Dify does."""
        sketch, problems = Sketch(self.model), []
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in written:
            if name not in known:
                sketch.note(f"'{name}' is no parameter of {self.name} and has no effect")
            elif known[name].role is picture and name not in constants:
                sketch.note(f"{name}: a run that gives a picture fails: painting from one is not available yet")
        for name in filter(known.__contains__, constants):
            if not is_typed and (refusal := _option_refusal(known[name], constants[name])):
                problems.append(refusal)
                continue
            try:
                draw(sketch, known[name], constants[name])
            except InvalidParam as error:
                problems.append(error.message)
        try:
            sketch.choose_sampler()
        except InvalidParam as error:
            problems.append(error.message)
        return Review(tuple(problems), tuple(sketch.notes), self._fixed_model(sketch, set(written)))

    def _fixed_model(self, sketch: Sketch, written: Set[str]) -> str:
        """What each run will ask for, as far as the document says it."""
        choices = [parameter for parameter in self.parameters if parameter.role is model]
        if sketch.model == self.model and not any(choice.name in written for choice in choices):
            return next((choice.default for choice in choices if choice.default), self.model)
        return sketch.model


def draw(sketch: Sketch, parameter: Taken, value: Value) -> None:
    """Writes the value, or the default where it says nothing, into the sketch. Raises InvalidParam."""
    given = parameter.default if parameter.is_open(value) else value
    if given is not None:
        parameter.role(sketch, parameter, given)


def _option_refusal(parameter: Taken, value: Value) -> str:
    """Dify's check of a plain setting that is chosen from a list."""
    if not parameter.options or parameter.is_open(value) or str(value) in parameter.options:
        return ""
    return f"tool parameter {parameter.name} value {value} not in options {list(parameter.options)}"


# Roles


def to(argument: str) -> Role:
    """The parameter is an argument of text_to_image under another name."""

    def role(sketch: Sketch, taken: Taken, value: Value) -> None:
        sketch.put(argument, taken.name, value)

    return role


def prompt(sketch: Sketch, taken: Taken, value: Value) -> None:
    sketch.put("prompt", taken.name, text_of(value))


def prompt_with_loras(sketch: Sketch, taken: Taken, value: Value) -> None:
    """AUTOMATIC1111 writes LoRAs into the prompt."""
    text = text_of(value)
    for name in _LORA.findall(text):
        sketch.note(f"the LoRA '{name}' is left out: this engine has none yet")
    sketch.put("prompt", taken.name, _LORA.sub("", text))


PROMPTS = (prompt, prompt_with_loras)


def negative_prompt(sketch: Sketch, taken: Taken, value: Value) -> None:
    sketch.put("negative_prompt", taken.name, text_of(value))


def model(sketch: Sketch, taken: Taken, value: Value) -> None:
    sketch.model = text_of(value).strip() or sketch.model


def side(argument: str) -> Role:
    """Width or height, brought to a multiple of 8."""

    def role(sketch: Sketch, taken: Taken, value: Value) -> None:
        free = _parameter(argument, name=taken.name, multiple_of=None)
        pixels = check_argument(free, value)
        sketch.arguments[argument] = _rounded(sketch, pixels)

    return role


def size(sketch: Sketch, taken: Taken, value: Value) -> None:
    """A name that the provider has for a size, or WIDTHxHEIGHT, or a ratio."""
    word = text_of(value).strip()
    if word.lower() in _AUTO:
        return
    pixels = taken.sizes.get(word)
    if pixels is None and (written := _PIXELS.fullmatch(word)):
        pixels = (int(written[1]), int(written[2]))
    if pixels is None:
        return ratio(sketch, taken, value)
    for argument, length in zip(("width", "height"), pixels, strict=True):
        free = _parameter(argument, name=taken.name, multiple_of=None)
        sketch.arguments[argument] = _rounded(sketch, check_argument(free, length))


def ratio(sketch: Sketch, taken: Taken, value: Value) -> None:
    """Width to height: the checkpoint, which is known later, says how many pixels that are."""
    word = text_of(value).strip()
    if word.lower() in _AUTO:
        return
    written = _RATIO.fullmatch(word)
    wide, high = (int(written[1]), int(written[2])) if written else (0, 0)
    if not (wide <= _FLATTEST * high and high <= _FLATTEST * wide and wide):
        known = ", ".join((*taken.sizes, *taken.options)) or "1024x1024, 16:9, auto"
        said = f"{taken.name} must be one of {known} or WIDTHxHEIGHT, got '{_short(word)}'"
        raise InvalidParam(said, params=taken.name)
    sketch.aspect_ratio = f"{wide}:{high}"


def seed(sketch: Sketch, taken: Taken, value: Value) -> None:
    """Seeds of other engines are wider than ours: they are folded, so the same one still paints the same."""
    whole = _parameter("seed", name=taken.name, maximum=2**64 - 1)
    drawn = check_argument(whole, value)
    if drawn is not None:
        sketch.arguments["seed"] = drawn % _SEEDS


def seed_or_zero(sketch: Sketch, taken: Taken, value: Value) -> None:
    """0 is drawn, too."""
    if text_of(value).strip() not in ("0", "0.0"):
        seed(sketch, taken, value)


def seed_or_nothing(sketch: Sketch, taken: Taken, value: Value) -> None:
    """A caller's mark that is a seed only if it is a number."""
    if text_of(value).strip().isdecimal():
        seed(sketch, taken, value)


def sampler(sketch: Sketch, taken: Taken, value: Value) -> None:
    sketch.sampler = text_of(value).strip()


def spacing(sketch: Sketch, taken: Taken, value: Value) -> None:
    sketch.spacing = text_of(value).strip()


def loras(sketch: Sketch, taken: Taken, value: Value) -> None:
    for name in filter(None, (part.strip() for part in text_of(value).split(","))):
        sketch.note(f"the LoRA '{name}' is left out: this engine has none yet")


def unheard(sketch: Sketch, taken: Taken, value: Value) -> None:
    """What only the provider's own engine has: named where it asks for something."""
    if value != taken.default and text_of(value).strip().lower() not in ("", "auto", "false", "disabled", "none"):
        sketch.note(f"{taken.name} '{_short(value)}' has no effect here")


def ignored(sketch: Sketch, taken: Taken, value: Value) -> None:
    """What changes no picture: how the provider sends it, its watermark, its filters."""


def png(sketch: Sketch, taken: Taken, value: Value) -> None:
    if text_of(value).strip().lower() not in ("png", "auto", ""):
        sketch.note(f"{taken.name} '{_short(value)}' has no effect here: pictures are PNG files")


def picture(sketch: Sketch, taken: Taken, value: Value) -> None:
    """A picture to start from. Raises InvalidParam: the engine paints from text alone."""
    raise InvalidParam(
        f"{taken.name}: painting from a given picture (image to image, edits) is not available yet; "
        "leave it empty to paint from the prompt alone",
        params=taken.name,
    )


def _parameter(argument: str, **changed: Any) -> ToolParameter:
    """The engine's own parameter, as a provider has it."""
    parameter = TEXT_TO_IMAGE.parameter(argument)
    assert parameter is not None
    return msgspec.structs.replace(parameter, **changed)


def _rounded(sketch: Sketch, pixels: int) -> int:
    rounded = pixels - pixels % _SIDE_STEP
    if rounded != pixels:
        sketch.note(f"{pixels} pixels become {rounded}: sides are multiples of {_SIDE_STEP}")
    return rounded


def _short(value: Value) -> str:
    text = text_of(value)
    return text if len(text) <= 60 else text[:57] + "..."
