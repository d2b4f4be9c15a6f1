"""What callers may ask for beyond the fields of their dialect: inputs of the document, by any of their usual names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any

from app.api.pictures.asked import inputs_of
from app.api.pictures.table import aliases
from app.errors import AtelierError, InvalidParam
from app.runs.shipped import shipped

ALIASES: Mapping[str, str] = aliases()
"""Names that other image servers have for inputs of our documents. The documents' own names always hold."""

NO_EXTRAS = frozenset({"model_name", "image", "mask", "reference"})
"""Inputs of documents that each dialect has fields of its own for."""


def input_named(document: str, name: str) -> str | None:
    """The document's input that an extra of this name sets; None: there is none."""
    known = inputs_of(document) - NO_EXTRAS
    stands_for = name if name in known else ALIASES.get(name, "")
    return stands_for if stands_for in known else None


def read_extras(document: str, given: Mapping[str, Any], unknown: Callable[[str], AtelierError]) -> dict[str, Any]:
    """The document's inputs that `given` sets; null sets nothing.

    Raises what `unknown` makes of a name that means nothing here, and InvalidParam for two names of one input.
    """
    inputs: dict[str, Any] = {}
    said: dict[str, str] = {}
    for name, value in given.items():
        if value is None:
            continue
        stands_for = input_named(document, name)
        if stands_for is None:
            raise unknown(name)
        if stands_for in inputs:
            raise InvalidParam(
                f"'{said[stands_for]}' and '{name}' are the same setting: give one of them.", params=name
            )
        inputs[stands_for], said[stands_for] = value, name
    return inputs


def expected_of(document: str, name: str, value: Any) -> str:
    """What an extra that the document has must be, as the end of a sentence, where its value is not of that type."""
    expected, fits = _EXPECTED.get(_types(document)[input_named(document, name) or ""], _TEXT)
    return "" if fits(value) else expected


@cache
def _types(document: str) -> Mapping[str, str]:
    return {variable.name: variable.type for variable in shipped(document).graph.start.variables}


def _is_number(value: Any) -> bool:
    """Also as a text, as forms have it."""
    if isinstance(value, str):
        with suppress(ValueError):
            return math.isfinite(float(value))
    return isinstance(value, int | float) and not isinstance(value, bool)


_TEXT: tuple[str, Callable[[Any], bool]] = ("a string", lambda value: isinstance(value, str))
_EXPECTED = {
    "number": ("a number", _is_number),
    "checkbox": ("a boolean", lambda value: isinstance(value, bool | str)),  # of texts the usual words
}
