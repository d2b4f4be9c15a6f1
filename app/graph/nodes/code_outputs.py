"""What code may answer: the outputs that its node declares, within limits, in Dify's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from app.domain.artifact import MARK
from app.errors import NodeFailed
from app.graph.values import Value

TYPES = ("string", "number", "object", "boolean", "array[string]", "array[number]", "array[object]", "array[boolean]")
LARGEST = 2**63 - 1


class Declared(msgspec.Struct, frozen=True):
    """An output's type. `children` are those of an object or of each object in an array; None: any."""

    type: str
    children: Mapping[str, Declared] | None = None


class OutputLimits(msgspec.Struct, frozen=True):
    """Lengths in characters and elements, precision in digits after the point, depth in objects within objects."""

    string_length: int = 400_000
    string_array_length: int = 30
    object_array_length: int = 30
    number_array_length: int = 1000
    precision: int = 20
    depth: int = 5


class OutputCheck:
    """Checks one answer. Every method gives back the value as it is kept, or raises NodeFailed with its path."""

    def __init__(self, limits: OutputLimits) -> None:
        self._limits = limits
        self._of_type: Mapping[str, Callable[[Value, Declared, str, int], Value]] = {
            "string": lambda value, declared, path, depth: self._string(value, path),
            "number": lambda value, declared, path, depth: self._number(value, path),
            "boolean": lambda value, declared, path, depth: self._any(value, path, depth),
            "object": self._object,
            "array[string]": self._strings,
            "array[number]": self._numbers,
            "array[object]": self._objects,
            "array[boolean]": self._booleans,
        }

    def outputs(
        self, answer: Mapping[str, Value], declared: Mapping[str, Declared], prefix: str = "", depth: int = 1
    ) -> dict[str, Value]:
        """Every declared output, and nothing else. Null is of any type."""
        self._go_in(depth)
        kept = {}
        for name, output in declared.items():
            path = prefix + name
            if name not in answer:
                raise _invalid(f"Output {path} is missing.")
            value = answer[name]
            kept[name] = None if value is None else self._of_type[output.type](value, output, path, depth)
        if len(declared) != len(answer):
            raise NodeFailed("Not all output parameters are validated.", error_type="CodeNodeError")
        return kept

    def _go_in(self, depth: int) -> None:
        if depth > self._limits.depth:
            message = f"Depth limit {self._limits.depth} reached, object too deep."
            raise NodeFailed(message, error_type="DepthLimitError")

    def _string(self, value: Value, path: str) -> str:
        if not isinstance(value, str):
            raise _invalid(f"Output {path} must be a string, got {type(value).__name__} instead.")
        if len(value) > self._limits.string_length:
            most = self._limits.string_length
            raise _invalid(f"The length of output variable `{path}` must be less than {most} characters")
        return value.replace("\x00", "")

    def _number(self, value: Value, path: str) -> int | float:
        if not isinstance(value, int | float):
            raise _invalid(f"Output {path} is not a number, got {type(value)} instead.")
        if not -LARGEST <= value <= LARGEST:  # nor one that is not a number
            between = f"it must be between {-LARGEST} and {LARGEST}"
            raise _invalid(f"Output variable `{path}` is out of range, {between}.")
        if isinstance(value, float) and _digits(value) > self._limits.precision:
            most = self._limits.precision
            raise _invalid(f"Output variable `{path}` has too high precision, it must be less than {most} digits.")
        return int(value) if isinstance(value, bool) else value

    def _object(self, value: Value, declared: Declared, path: str, depth: int) -> Value:
        if not isinstance(value, dict):
            raise _invalid(f"Output {path} is not an object, got {type(value)} instead.")
        if declared.children is None:
            return self._any(value, path, depth)
        return self.outputs(value, declared.children, f"{path}.", depth + 1)

    def _strings(self, value: Value, declared: Declared, path: str, depth: int) -> Value:
        items = self._list(value, path, self._limits.string_array_length)
        return [None if item is None else self._string(item, f"{path}[{i}]") for i, item in enumerate(items)]

    def _numbers(self, value: Value, declared: Declared, path: str, depth: int) -> Value:
        items = self._list(value, path, self._limits.number_array_length)
        for i, item in enumerate(items):
            if not isinstance(item, int | float):
                raise _invalid(f"The element at index {i} of output variable `{path}` must be a number.")
        return [self._number(item, f"{path}[{i}]") for i, item in enumerate(items)]

    def _objects(self, value: Value, declared: Declared, path: str, depth: int) -> Value:
        items = self._list(value, path, self._limits.object_array_length)
        for i, item in enumerate(items):
            if item is not None and not isinstance(item, dict):
                raise _invalid(f"Output {path}[{i}] is not an object, got {type(item)} instead at index {i}.")
        return [
            None if item is None else self._object(item, declared, f"{path}[{i}]", depth)
            for i, item in enumerate(items)
        ]

    def _booleans(self, value: Value, declared: Declared, path: str, depth: int) -> Value:
        items = self._list(value, path)
        for i, item in enumerate(items):
            if item is not None and not isinstance(item, bool):
                raise _invalid(f"Output {path}[{i}] is not a boolean, got {type(item)} instead.")
        return items

    def _list(self, value: Value, path: str, most: int | None = None) -> list[Value]:
        if not isinstance(value, list):
            raise _invalid(f"Output {path} is not an array, got {type(value)} instead.")
        if most is not None and len(value) > most:
            raise _invalid(f"The length of output variable `{path}` must be less than {most} elements.")
        return value

    def _any(self, value: Value, path: str, depth: int) -> Value:
        """A value whose type is not declared: the limits of its parts hold all the same."""
        if isinstance(value, dict):
            self._go_in(depth + 1)
            if MARK in value:  # a file is what the server knows as one, not what says so
                raise _invalid(f"Output {path} can't have the key {MARK}.")
            return {key: self._any(item, f"{path}.{key}", depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self._any(item, f"{path}[{i}]", depth) for i, item in enumerate(value)]
        if isinstance(value, str):
            return self._string(value, path)
        if value is None or isinstance(value, bool):
            return value
        return self._number(value, path)


def _digits(value: float) -> int:
    exponent = Decimal(str(value)).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _invalid(message: str) -> NodeFailed:
    return NodeFailed(message, error_type="OutputValidationError")


def as_mapping(answer: Any) -> Mapping[str, Value]:
    if not isinstance(answer, dict):
        raise NodeFailed(f"Result must be a dict, got {type(answer).__name__}.", error_type="CodeExecutionError")
    return answer
