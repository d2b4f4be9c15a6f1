"""Tools and their parameters as data, and the one check of their arguments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from app.domain.artifact import is_artifact
from app.errors import InvalidParam
from app.graph.tools.weighted import named_loras
from app.graph.values import Value, is_finite

ParameterType = Literal["string", "number", "integer", "boolean", "select", "picture", "pictures"]

_WHOLE = re.compile(r"[+-]?[0-9]{1,30}")
_DECIMAL = re.compile(r"[+-]?([0-9]{1,30}(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][+-]?[0-9]{1,3})?")
PICTURES = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp"})
_MOST_PICTURES = 4  # unless a parameter says otherwise
_TRUE, _FALSE = frozenset({"true", "1", "yes", "on"}), frozenset({"false", "0", "no", "off"})


class ToolParameter(msgspec.Struct, frozen=True):
    """One argument of a tool. Without a default it is left out when a caller leaves it out.

    A `picture` is a file as a value, or a list of one; `pictures` are a few of them, always a list.
    """

    name: str
    type: ParameterType
    description: str
    required: bool = False
    default: Value = None
    minimum: float | None = None
    maximum: float | None = None
    multiple_of: int | None = None
    max_length: int | None = None
    options: tuple[str, ...] = ()
    aliases: Mapping[str, str] = {}
    unset: int | None = None  # a number by which people say "not given"
    most: int = _MOST_PICTURES  # pictures

    @property
    def expectation(self) -> str:
        """What a value must be, as the end of a sentence."""
        if self.type == "select":
            return "one of " + ", ".join(self.options)
        if self.type == "string":
            return f"a string of at most {self.max_length} characters" if self.max_length else "a string"
        if self.type == "boolean":
            return "true or false"
        if self.type == "picture":
            return "a picture file (PNG, JPEG, WebP, GIF or BMP)"
        if self.type == "pictures":
            return f"1 to {self.most} picture files (PNG, JPEG, WebP, GIF or BMP)"
        noun = "an integer" if self.type == "integer" else "a number"
        bounds = "" if self.minimum is None else f" from {self.minimum:.16g} to {self.maximum:.16g}"
        return noun + bounds + (f" and a multiple of {self.multiple_of}" if self.multiple_of else "")


class Call(msgspec.Struct, frozen=True):
    """What a worker is asked for: `inputs` are shown to callers, `arguments` are not."""

    inputs: dict[str, Any]
    arguments: Mapping[str, Any] = {}


class Review(msgspec.Struct, frozen=True):
    """What an author hears of a call before it is made: problems would fail it, notes would not."""

    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    model: str = ""  # the model of somebody else's that the document fixes, if it does
    loras: tuple[str, ...] = ()  # those that the document names


class Tool(msgspec.Struct, frozen=True):
    """A tool that takes its parameters as they are."""

    provider: str
    name: str
    work_class: str
    parameters: tuple[ToolParameter, ...]

    def parameter(self, name: str) -> ToolParameter | None:
        return next((parameter for parameter in self.parameters if parameter.name == name), None)

    @property
    def required(self) -> frozenset[str]:
        return frozenset(parameter.name for parameter in self.parameters if parameter.required)

    @property
    def pictures(self) -> frozenset[str]:
        """The parameters that take files."""
        return frozenset(each.name for each in self.parameters if each.type in ("picture", "pictures"))

    def call(self, values: Mapping[str, Any]) -> Call:
        """Raises InvalidParam for the first value that is not allowed."""
        return Call(check_arguments(self, values))

    def review(self, constants: Mapping[str, Any], written: Iterable[str], is_typed: bool) -> Review:
        """Of a document that writes these parameters, of which some are `constants`; `is_typed`: {type, value}."""
        known = ", ".join(parameter.name for parameter in self.parameters)
        strangers = (name for name in written if self.parameter(name) is None)
        problems = [f"'{name}' is not a parameter of {self.name}; it takes {known}" for name in strangers]
        for parameter in self.parameters:
            if parameter.name in constants:
                try:
                    check_argument(parameter, constants[parameter.name])
                except InvalidParam as error:
                    problems.append(error.message)
        try:
            loras = named_loras(constants)
        except InvalidParam as error:
            return Review((*problems, error.message))
        return Review(tuple(problems), loras=loras)


def check_arguments(tool: Tool, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with their types and defaults, in the tool's order; optional ones that say nothing are left out.

    Numbers may come as text, as Dify's tool parameters do. Raises InvalidParam at the first value that is not allowed:
    the sentence names the parameter, what is allowed and what was given.
    """
    for name in arguments:
        if tool.parameter(name) is None:
            known = ", ".join(parameter.name for parameter in tool.parameters)
            raise InvalidParam(f"{name} is not a parameter of {tool.name}; it takes {known}", params=name)
    checked = (
        (parameter.name, check_argument(parameter, arguments.get(parameter.name))) for parameter in tool.parameters
    )
    return {name: value for name, value in checked if value is not None}


def check_argument(parameter: ToolParameter, value: Value) -> Value:
    """The value as the tool takes it; None where nothing is given and there is no default. Raises InvalidParam."""
    if value is None or value == [] or (value == "" and not parameter.required):
        if parameter.required:
            raise InvalidParam(f"{parameter.name} is required", params=parameter.name)
        return parameter.default
    checked = _CONVERSIONS[parameter.type](parameter, value)
    if checked is None or not _is_within(parameter, checked):
        raise InvalidParam(
            f"{parameter.name} must be {parameter.expectation}, got {_shown(value)}", params=parameter.name
        )
    return None if parameter.unset is not None and checked == parameter.unset else checked


def _is_within(parameter: ToolParameter, value: Value) -> bool:
    if isinstance(value, str):
        return parameter.max_length is None or len(value) <= parameter.max_length
    if parameter.minimum is None or parameter.maximum is None or value == parameter.unset:
        return True
    is_multiple = parameter.multiple_of is None or value % parameter.multiple_of == 0
    return bool(parameter.minimum <= value <= parameter.maximum and is_multiple)


def _string(parameter: ToolParameter, value: Value) -> str | None:
    return value if isinstance(value, str) else None


def _number(parameter: ToolParameter, value: Value) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = float(value) if _DECIMAL.fullmatch(value.strip()) else None
    return value if isinstance(value, (int, float)) and is_finite(value) else None


def _integer(parameter: ToolParameter, value: Value) -> int | None:
    """Text of digits stays exact beyond 2**53; 4.0 counts as 4."""
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        return int(value)
    number = _number(parameter, value)
    return int(number) if number is not None and number == int(number) else None


def _boolean(parameter: ToolParameter, value: Value) -> bool | None:
    word = str(value).strip().lower() if isinstance(value, (str, bool)) else ""
    return True if word in _TRUE else False if word in _FALSE else None


def _select(parameter: ToolParameter, value: Value) -> str | None:
    word = " ".join(value.lower().split()) if isinstance(value, str) else ""
    word = parameter.aliases.get(word, word)
    return word if word in parameter.options else None


def _picture(parameter: ToolParameter, value: Value) -> Value:
    file = value[0] if isinstance(value, list) and len(value) == 1 else value
    return file if is_artifact(file) and file["mime_type"] in PICTURES else None


def _pictures(parameter: ToolParameter, value: Value) -> list[Value] | None:
    files = value if isinstance(value, list) else [value]
    are_pictures = all(_picture(parameter, file) for file in files)
    return files if are_pictures and len(files) <= parameter.most else None


_CONVERSIONS = {
    "string": _string,
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
    "select": _select,
    "picture": _picture,
    "pictures": _pictures,
}


def _shown(value: Value) -> str:
    """The value as the caller wrote it, cut where it is long."""
    if is_artifact(value):
        return f"'{value['filename']}' ({value['mime_type']})"
    if isinstance(value, list) and value and all(map(is_artifact, value)):
        return f"{len(value)} files: " + ", ".join(map(_shown, value[:_MOST_PICTURES]))
    if isinstance(value, str) and len(value) > 60:
        return f"{len(value)} characters"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
