"""What a parameter of somebody else's tool is for us: each role writes its value into a sketch."""

from __future__ import annotations

import re

from app.domain.artifact import is_artifact
from app.errors import InvalidParam
from app.graph.selectors import text_of
from app.graph.tools.image_parameters import MOST_SEED
from app.graph.tools.parameters import check_argument
from app.graph.tools.sketch import SIDE_STEP, Role, Sketch, Taken, parameter_of, short
from app.graph.tools.weighted import Weighted, read_weight, read_weighted
from app.graph.values import Value

_PIXELS = re.compile(r"\s*([0-9]{2,5})\s*[x×X*]\s*([0-9]{2,5})\s*")
_RATIO = re.compile(r"\s*([0-9]{1,2})\s*[:x/]\s*([0-9]{1,2})\s*")
_FLATTEST = 4  # times as wide as it is high, or the other way round
_AUTO = frozenset({"auto", "automatic", "custom", "none"})
_ZERO = frozenset({"0", "0.0"})
_OFF = frozenset({"disabled", "none", "false", ""})


def to(argument: str) -> Role:
    """The parameter is an argument of our tools under another name."""

    def role(sketch: Sketch, taken: Taken, value: Value) -> None:
        sketch.put(argument, taken.name, value)

    return role


def unless_zero(argument: str) -> Role:
    """The same of a parameter that says nothing by a 0."""

    def role(sketch: Sketch, taken: Taken, value: Value) -> None:
        if text_of(value).strip() not in _ZERO:
            sketch.put(argument, taken.name, value)

    return role


def prompt(sketch: Sketch, taken: Taken, value: Value) -> None:
    sketch.put("prompt", taken.name, text_of(value))


def negative_prompt(sketch: Sketch, taken: Taken, value: Value) -> None:
    sketch.put("negative_prompt", taken.name, text_of(value))


EMPTY_IS_MEANT = (prompt, negative_prompt)


def model(sketch: Sketch, taken: Taken, value: Value) -> None:
    sketch.model = text_of(value).strip() or sketch.model


def side(argument: str) -> Role:
    """Width or height, brought to a multiple of 8."""

    def role(sketch: Sketch, taken: Taken, value: Value) -> None:
        free = parameter_of(argument, name=taken.name, multiple_of=None)
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
        free = parameter_of(argument, name=taken.name, multiple_of=None)
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
        said = f"{taken.name} must be one of {known} or WIDTHxHEIGHT, got '{short(word)}'"
        raise InvalidParam(said, params=taken.name)
    sketch.aspect_ratio = f"{wide}:{high}"


def seed(sketch: Sketch, taken: Taken, value: Value) -> None:
    """Seeds of other engines are wider than ours: they are folded, so the same one still paints the same."""
    whole = parameter_of("seed", name=taken.name, maximum=2**64 - 1)
    drawn = check_argument(whole, value)
    if drawn is not None:
        sketch.arguments["seed"] = drawn % (MOST_SEED + 1)


def seed_or_zero(sketch: Sketch, taken: Taken, value: Value) -> None:
    """0 is drawn, too."""
    if text_of(value).strip() not in _ZERO:
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
    """A list with or without weights; those may stand in a parameter of their own (`lora_weights`)."""
    for named in read_weighted(text_of(value), taken.name):
        sketch.lora_names[len(sketch.lora_names)] = named


def lora_weights(sketch: Sketch, taken: Taken, value: Value) -> None:
    for at, word in enumerate(text_of(value).split(",")):
        if word.strip():
            sketch.lora_weights[at] = read_weight(word.strip(), f"LoRA {at + 1}", taken.name)


def loras_by_semicolon(sketch: Sketch, taken: Taken, value: Value) -> None:
    """Novita's `name,0.7;other,1`."""
    for entry in filter(None, (part.strip() for part in text_of(value).split(";"))):
        name, _, weight = (part.strip() for part in entry.partition(","))
        chosen = read_weight(weight, name, taken.name) if weight else None
        sketch.lora_names[len(sketch.lora_names)] = Weighted(name, chosen)


def lora(number: int) -> Role:
    """The name of the LoRA of that number; `lora_weight` is its weight."""

    def role(sketch: Sketch, taken: Taken, value: Value) -> None:
        sketch.lora_names[_NUMBERED + number] = Weighted(text_of(value).strip())

    return role


def lora_weight(number: int) -> Role:
    def role(sketch: Sketch, taken: Taken, value: Value) -> None:
        sketch.lora_weights[_NUMBERED + number] = read_weight(text_of(value).strip(), f"LoRA {number}", taken.name)

    return role


_NUMBERED = 1000
"""Keys from here on are of LoRAs that have a parameter each."""


def denoise(sketch: Sketch, taken: Taken, value: Value) -> None:
    strength = check_argument(parameter_of("strength", name=taken.name), value)
    sketch.denoise = strength


def second_pass(sketch: Sketch, taken: Taken, value: Value) -> None:
    """How ComfyUI enlarges latents between two passes; ours does it in one way."""
    if text_of(value).strip().lower() not in _OFF:
        sketch.arguments["hires_upscaler"] = "latent"


def hires_by_comma(sketch: Sketch, taken: Taken, value: Value) -> None:
    """Novita's `width,height,strength`, then perhaps an upscaler of its own."""
    parts = [part.strip() for part in text_of(value).split(",")]
    width = check_argument(parameter_of("width", name=taken.name, multiple_of=None), parts[0])
    if width is None or len(parts) < 3:
        raise InvalidParam(f"{taken.name} must be width,height,strength, got '{short(value)}'", params=taken.name)
    sketch.hires_width = width
    sketch.put("hires_strength", taken.name, parts[2])
    sketch.arguments["hires_upscaler"] = "latent"


def first_pass(sketch: Sketch, taken: Taken, value: Value) -> None:
    """How large the first pass is, as a part of the picture's sides."""
    share = check_argument(parameter_of("strength", name=taken.name, minimum=0.25), value)
    sketch.first_pass = share if share is not None else sketch.first_pass


def unheard(sketch: Sketch, taken: Taken, value: Value) -> None:
    """What only the provider's own engine has: named where it asks for something."""
    if value != taken.default and text_of(value).strip().lower() not in ("", "auto", "false", "disabled", "none"):
        sketch.note(f"{taken.name} '{short(value)}' has no effect here")


def ignored(sketch: Sketch, taken: Taken, value: Value) -> None:
    """What changes no picture: how the provider sends it, its watermark, its filters."""


def file_format(sketch: Sketch, taken: Taken, value: Value) -> None:
    if (word := text_of(value).strip().lower()) not in ("", "auto"):
        sketch.put("format", taken.name, word)


def file_quality(sketch: Sketch, taken: Taken, value: Value) -> None:
    """0 is allowed elsewhere."""
    quality = check_argument(parameter_of("quality", name=taken.name, minimum=0), value)
    sketch.arguments["quality"] = max(1, quality)


def picture(sketch: Sketch, taken: Taken, value: Value) -> None:
    """A picture to begin with: of several the first."""
    sketch.put("image", taken.name, _first_file(sketch, taken, value))


def another_picture(sketch: Sketch, taken: Taken, value: Value) -> None:
    """One picture more than one can begin with, unless it is the only one."""
    if "image" in sketch.arguments:
        sketch.note(f"{taken.name} has no effect here: one picture is painted anew")
    else:
        picture(sketch, taken, value)


def mask(sketch: Sketch, taken: Taken, value: Value) -> None:
    sketch.put("mask", taken.name, _first_file(sketch, taken, value))


TAKE_PICTURES = (picture, another_picture, mask)


def _first_file(sketch: Sketch, taken: Taken, value: Value) -> Value:
    files = value if isinstance(value, list) else [value]
    if not is_artifact(files[0]):
        said = f"{taken.name} takes a picture file of the workflow; addresses are not fetched, got '{short(files[0])}'"
        raise InvalidParam(said, params=taken.name)
    if len(files) > 1:
        sketch.note(f"{taken.name}: the first of {len(files)} pictures is painted anew")
    return files[0]


def _rounded(sketch: Sketch, pixels: int) -> int:
    rounded = pixels - pixels % SIDE_STEP
    if rounded != pixels:
        sketch.note(f"{pixels} pixels become {rounded}: sides are multiples of {SIDE_STEP}")
    return rounded
