"""Names with weights, as people write them: `ink:0.8, pixel`, and AUTOMATIC1111's `<lora:ink:0.8>` within a prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from app.errors import InvalidParam

_TAG = re.compile(r"<lora:([^:<>]+)((?::[^:<>]*)*)>,?\s*")  # no tag within a tag: each place is looked at once
_NUMBER = re.compile(r"[+-]?([0-9]{1,4}(\.[0-9]{0,12})?|\.[0-9]{1,12})")
_TEXT_KEY, _UNET_KEY = "te", "unet"
_MARKS = str.maketrans(":<>", "   ")
HEAVIEST = 5.0


class Weighted(msgspec.Struct, frozen=True, omit_defaults=True):
    """The name of a file with how much it counts; None: not said. `text_weight` is a LoRA's for the text encoder."""

    name: str
    weight: float | None = None
    text_weight: float | None = None

    @property
    def text(self) -> str:
        """As people write it."""
        numbers = [self.weight] if self.text_weight is None else [self.text_weight, self.weight]
        name = self.name.translate(_MARKS)
        return ":".join((f"<lora:{name}", *(f"{each:g}" for each in numbers if each is not None))) + ">"

    def with_weight(self, weight: float | None) -> Weighted:
        """With this weight, unless it has one of its own."""
        return Weighted(self.name, weight) if self.weight is None else self

    def to_value(self, weight: float) -> dict[str, Any]:
        """As it lies in a step's inputs; `weight` is that of a name without one."""
        chosen = weight if self.weight is None else self.weight
        apart = {} if self.text_weight is None else {"text_weight": self.text_weight}
        return {"name": self.name, "weight": chosen, **apart}


def read_weighted(text: str, parameter: str) -> list[Weighted]:
    """`ink:0.8, pixel`, likewise as tags. Raises InvalidParam for a weight that is none."""
    rest, tagged = split_prompt(text, parameter)
    entries = (entry.strip() for entry in rest.split(","))
    return [*tagged, *(_entry(entry, parameter) for entry in entries if entry)]


def named_loras(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """The LoRAs that a call's `loras` and `prompt` name, as far as they are known. Raises InvalidParam likewise."""
    listed, prompt = arguments.get("loras"), arguments.get("prompt")
    found = read_weighted(listed, "loras") if isinstance(listed, str) else []
    found += split_prompt(prompt)[1] if isinstance(prompt, str) else []
    return tuple(dict.fromkeys(each.name for each in found))


def split_prompt(prompt: str, parameter: str = "prompt") -> tuple[str, list[Weighted]]:
    """(the prompt without its `<lora:…>` tags, the LoRAs that they name).

    As in AUTOMATIC1111 a second number is the UNet's weight, and `te=0.5`, `unet=0.5` name what they are for.
    Raises InvalidParam for a weight that is none.
    """
    if "<lora:" not in prompt:
        return prompt, []
    found = [_tagged(match, parameter) for match in _TAG.finditer(prompt)]
    return _TAG.sub("", prompt), found


def _tagged(match: re.Match[str], parameter: str) -> Weighted:
    name, rest = match[1].strip(), [part.strip() for part in match[2].split(":")[1:]]
    given = dict(part.split("=", 1) for part in rest if "=" in part)
    plain = [part for part in rest if "=" not in part]
    text = plain[0] if plain else given.get(_TEXT_KEY)
    unet = plain[1] if len(plain) > 1 else given.get(_UNET_KEY, text)
    weight = None if unet is None else read_weight(unet, name, parameter)
    text_weight = None if text is None or text == unet else read_weight(text, name, parameter)
    return Weighted(name, weight, text_weight)


def _entry(entry: str, parameter: str) -> Weighted:
    name, colon, weight = entry.rpartition(":")
    return Weighted(name.strip(), read_weight(weight.strip(), name, parameter)) if colon else Weighted(entry)


def read_weight(word: str, name: str, parameter: str) -> float:
    """The weight of what is called `name`. Raises InvalidParam for one that is none."""
    weight = float(word) if _NUMBER.fullmatch(word) else None
    if weight is None or abs(weight) > HEAVIEST:
        said = f"{parameter}: the weight of '{name}' must be a number from -{HEAVIEST:g} to {HEAVIEST:g}, got '{word}'"
        raise InvalidParam(said, params=parameter)
    return weight
