"""What a picture file says of itself, as a recipe: Atelier's JSON, or the text of AUTOMATIC1111 and its kin.

That text is the prompt, a part that begins with `Negative prompt:`, and a line of names and values that begins with
`Steps:`. It names no given picture, and knows settings that mean nothing here: what could not be taken over is said.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from app.domain.recipe import MOST_WORDS, Recipe, UsedLora, read_recipe
from app.errors import InvalidParam
from app.graph.tools.image_parameters import MOST_SEED
from app.graph.tools.samplers import choose_sampler
from app.graph.tools.weighted import split_prompt

_LONGEST = 100_000  # characters of a text that are looked at
_LONGEST_LINE = 20_000
_MOST_NOTES = 40
_SETTING = re.compile(r'([A-Za-z][\w \-/]{0,60}):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
_NEGATIVE, _STEPS = "Negative prompt:", "Steps:"
_SIZE = re.compile(r"(\d{1,5})\s*x\s*(\d{1,5})")
_NO_UPSCALERS = frozenset({"none", "nearest"})


def read_said(text: str) -> tuple[Recipe, tuple[str, ...]]:
    """(the recipe, what of the text could not be taken over). Raises InvalidParam for a text that is no recipe.

    A prompt may begin with a brace, too; but no JSON has a line that begins as the settings do.
    """
    lines = text[:_LONGEST].strip().split("\n")
    at = next((i for i in reversed(range(len(lines))) if lines[i].lstrip().startswith(_STEPS)), None)
    if at is not None:
        return _read_parameters(lines, at)
    if text.lstrip().startswith("{"):
        recipe, strangers = read_recipe(text)
        return recipe, tuple(f"'{name}' is not known here, and had no effect" for name in strangers[:_MOST_NOTES])
    raise InvalidParam(
        "The picture says nothing that Atelier can read about how it was made: there is no line 'Steps: …'.",
        params="recipe",
    )


def _read_parameters(lines: Sequence[str], at: int) -> tuple[Recipe, tuple[str, ...]]:
    """`at` is the line of the settings."""
    prompt, _, negative = "\n".join(lines[:at]).partition(_NEGATIVE)
    if len(prompt) > MOST_WORDS:
        raise InvalidParam(f"The picture's prompt has more than {MOST_WORDS} characters.", params="recipe")
    draft = _Draft(_settings(lines[at][:_LONGEST_LINE]))
    draft.words(prompt.strip(), negative.strip())
    return draft.recipe(), tuple(draft.notes[:_MOST_NOTES])


def _settings(line: str) -> dict[str, str]:
    """`Steps: 20, Model: "soft, warm"` as names and values. Of a name that comes twice the first counts."""
    found: dict[str, str] = {}
    for match in _SETTING.finditer(line):
        found.setdefault(match[1].strip(), _unquoted(match[2].strip()))
    return found


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value.strip('"')


class _Draft:
    """A recipe in the making. Each setting is taken once; what is left at the end is said."""

    def __init__(self, settings: dict[str, str]) -> None:
        self._left = settings
        self._values: dict[str, Any] = {}
        self.notes: list[str] = []

    def words(self, prompt: str, negative: str) -> None:
        plain, loras = split_prompt(prompt)
        self._values["prompt"], self._values["negative_prompt"] = plain, negative
        self._values["loras"] = tuple(
            UsedLora(each.name, 1.0 if each.weight is None else each.weight, each.text_weight) for each in loras
        )

    def recipe(self) -> Recipe:
        """Raises InvalidParam for values that nothing here can paint."""
        self._paint()
        self._size()
        self._passes()
        self._enlarge()
        self._software()
        self.notes += [f"'{name}' ({value[:60]}) is not taken over" for name, value in self._left.items()]
        try:
            return msgspec.convert(self._values, Recipe)
        except msgspec.ValidationError as error:
            raise InvalidParam(f"The picture can't be made here: {error}", params="recipe") from None

    def _paint(self) -> None:
        self._values["steps"] = self._number("Steps", int, 20)
        self._values["guidance_scale"] = self._number("CFG scale", float, 7.0)
        self._values["seed"] = self._number("Seed", int, 0) % (MOST_SEED + 1)
        self._values["clip_skip"] = self._number("Clip skip", int, 1)
        self._values["variation_seed"] = self._number("Variation seed", int, 0) % (MOST_SEED + 1)
        self._values["variation_strength"] = self._number("Variation seed strength", float, 0.0)
        self._values["checkpoint"] = self._take("Model")[:256]
        self._values["checkpoint_hash"] = _hash(self._take("Model hash"))
        if vae := self._take("VAE"):
            self._values["vae"] = vae.rpartition(".")[0] or vae
        for said_elsewhere in ("VAE hash", "Lora hashes", "TI hashes", "Hashes"):
            self._take(said_elsewhere)
        self._sampler()

    def _sampler(self) -> None:
        name, spacing = self._take("Sampler"), self._take("Schedule type")
        choice = choose_sampler(name, spacing)
        if not name:
            self.notes.append("there is no sampler: euler_a paints")
        elif choice is None:
            self.notes.append(f"the sampler '{name[:60]}' is not known here: euler_a paints in its place")
        elif choice.note:
            self.notes.append(choice.note)
        self._values["sampler"] = choice.scheduler if choice else "euler_a"

    def _size(self) -> None:
        size = _SIZE.fullmatch(self._take("Size"))
        width, height = (int(size[1]), int(size[2])) if size else (512, 512)
        if not size:
            self.notes.append("there is no size: 512 x 512 is painted")
        self._values["width"], self._values["height"] = width, height

    def _passes(self) -> None:
        """`Denoising strength` is the second pass's, or, without one, of a given picture that nothing names."""
        strength = self._number("Denoising strength", float, 0.7) if "Denoising strength" in self._left else None
        scale = self._hires_scale()
        if scale > 1:
            self._values["hires"] = {
                "scale": scale,
                "strength": 0.7 if strength is None else strength,
                "steps": self._number("Hires steps", int, 0) or self._values["steps"],
                "upscaler": self._hires_upscaler(),
            }
        elif strength is not None:
            self.notes.append("it began with another picture, which the text does not name: it is painted from words")

    def _hires_scale(self) -> float:
        scale: float = self._number("Hires upscale", float, 1.0)
        resized = _SIZE.fullmatch(self._take("Hires resize"))
        if resized is None:
            return scale
        sides = (int(resized[1]), self._values["width"]), (int(resized[2]), self._values["height"])
        return max(float(wanted / max(1, side)) for wanted, side in sides)  # one that is 0 follows from the other

    def _hires_upscaler(self) -> str:
        name = self._take("Hires upscaler") or "Latent"
        if name.lower().startswith("latent"):
            if name.lower() != "latent":
                self.notes.append(f"the upscaler '{name[:60]}' is not here: latent enlarges in its place")
            return "latent"
        return "lanczos" if name.lower() in _NO_UPSCALERS else name

    def _enlarge(self) -> None:
        scale = self._number("Postprocess upscale by", float, 1.0)
        upscaler = self._take("Postprocess upscaler")
        if scale > 1:
            self._values["enlarge"] = {"scale": scale, "upscaler": upscaler or "lanczos"}

    def _software(self) -> None:
        if software := self._take("Version")[:256]:
            self._values["versions"] = {"software": software}

    def _take(self, name: str) -> str:
        return self._left.pop(name, "").strip()

    def _number(self, name: str, kind: Callable[[str], Any], default: Any) -> Any:
        """Raises InvalidParam for what is no number."""
        written = self._take(name)
        if not written:
            return default
        try:
            number = kind(written[:40])
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise InvalidParam(f"The picture's '{name}' is no number: {written[:40]}", params="recipe")
        return number


def _hash(text: str) -> str:
    return text if re.fullmatch(r"[0-9a-fA-F]{1,64}", text) else ""


def preferred(texts: Mapping[str, str]) -> str:
    """Of what a file says under several names, that which says most. Raises InvalidParam for a file that is silent."""
    for name in ("atelier", "parameters"):
        if texts.get(name, "").strip():
            return texts[name]
    raise InvalidParam(
        "The picture says nothing about how it was made: it has neither Atelier's settings nor A1111's parameters. "
        "Programs that change or shrink pictures often drop them.",
        params="file",
    )
