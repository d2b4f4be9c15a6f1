"""The fields of a request, taken out one by one and checked in OpenAI's words; what nobody takes is an extra."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from app.api.openai.errors import (
    AboveMaximum,
    BelowMinimum,
    InvalidType,
    InvalidValue,
    MissingParameter,
    PromptTooLong,
    TextTooLong,
    UnknownParameter,
)
from app.api.openai.profiles import AUTO, Profile
from app.api.pictures.sizes import size_inputs
from app.runs.sizes import SMALLEST

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
_OF_STREAMS = frozenset({"stream", "partial_images"})


class Fields:
    """`given`: by name; null is absent. In a form (`is_form`) every value is a text, and an empty one is absent."""

    def __init__(self, given: Mapping[str, Any], *, is_form: bool = False) -> None:
        absent = (None, "") if is_form else (None,)
        self._given = {name: value for name, value in given.items() if value not in absent}
        self._is_form = is_form

    @property
    def rest(self) -> Mapping[str, Any]:
        """What has not been taken."""
        return self._given

    def take(self, name: str) -> Any:
        """The value as it is; None: there is none."""
        return self._given.pop(name, None)

    def refuse(self, names: Collection[str]) -> None:
        """Raises UnknownParameter for a field of these names. A stream that is not asked for is no field."""
        for name, value in self._given.items():
            if name in names and not (name in _OF_STREAMS and value in (False, 0, "false", "0")):
                raise UnknownParameter(name)
        for name in names:
            self._given.pop(name, None)

    def text(self, name: str) -> str:
        """Raises InvalidType. Empty: there is none."""
        value = self.take(name)
        if value is not None and not isinstance(value, str):
            raise InvalidType(name, "a string", value)
        return (value or "").replace("\0", "")

    def choice(self, name: str, options: Iterable[str]) -> str:
        """Raises InvalidType, InvalidValue. Empty: there is none."""
        options = tuple(options)
        value = self.text(name)
        if value and value not in options:
            raise InvalidValue.of(name, value, options)
        return value

    def integer(self, name: str, least: int, most: int, otherwise: int) -> int:
        """Raises InvalidType, AboveMaximum, BelowMinimum."""
        value = self.take(name)
        if value is None:
            return otherwise
        if self._is_form and _WHOLE.fullmatch(value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidType(name, "an integer", value)
        if value > most:
            raise AboveMaximum(name, most, value)
        if value < least:
            raise BelowMinimum(name, least, value)
        return value

    def flag(self, name: str) -> bool:
        """Raises InvalidType."""
        value = self.take(name)
        if self._is_form and value in ("true", "false"):
            value = value == "true"
        if value is not None and not isinstance(value, bool):
            raise InvalidType(name, "a boolean", value)
        return bool(value)

    def prompt(self, profile: Profile) -> str:
        """Raises MissingParameter, InvalidType, PromptTooLong, TextTooLong."""
        prompt = self.text("prompt")
        if not prompt:
            raise MissingParameter("prompt")
        if len(prompt) > profile.most_prompt:
            if profile.is_openais and not profile.is_gpt:
                raise PromptTooLong(profile.most_prompt, len(prompt))
            raise TextTooLong("prompt", profile.most_prompt, len(prompt))
        return prompt

    def size(self, profile: Profile) -> dict[str, Any]:
        """The document's inputs that make a picture as large. Raises InvalidType, InvalidValue."""
        value = self.text("size")
        if value in ("", AUTO):
            if value and profile.sizes and AUTO not in profile.sizes:
                raise InvalidValue.of("size", value, profile.sizes)
            return {}
        found = _SIZE.fullmatch(value)
        if profile.sizes and value not in profile.sizes:
            raise InvalidValue.of("size", value, profile.sizes)
        if found is None or not _fits((int(found[1]), int(found[2])), profile):
            said = f"Invalid value: '{value[:40]}'. Supported values are {profile.sizes_in_words}."
            raise InvalidValue(said, params="size")
        return _inputs((int(found[1]), int(found[2])), profile)


def _fits(size: tuple[int, int], profile: Profile) -> bool:
    short, long = sorted(size)
    is_flat = bool(profile.flattest) and long > short * profile.flattest
    is_vast = bool(profile.most_pixels) and short * long > profile.most_pixels
    on_grid = not any(side % profile.grid for side in size)
    return short >= SMALLEST and long <= profile.widest and on_grid and not is_flat and not is_vast


def _inputs(size: tuple[int, int], profile: Profile) -> dict[str, Any]:
    """Who asks for a model of OpenAI's can't know what its stand-in was trained on: it is painted as that can."""
    return size_inputs(*size) | ({"fit_size": True} if profile.is_openais else {})
