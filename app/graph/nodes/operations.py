"""The operations of an assigner, as one table, and the types that they ask for."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from app.domain.artifact import is_artifact
from app.errors import NodeFailed
from app.graph.values import Value

MOST_ITEMS = 100_000
"""The items of a list that grows: a loop may double it in every round."""

_LARGEST = 2**63
"""Whole numbers have 64 bits, as in the database and most of what reads them."""

_NUMBERS = frozenset({"integer", "float"})
_PLAIN = frozenset({"string", "object", "boolean"})
_ITEM_TYPES: Mapping[str, tuple[str, ...]] = {
    "array[string]": ("string",),
    "array[number]": ("integer", "float", "boolean"),
    "array[object]": ("object",),
    "array[boolean]": ("boolean",),
    "array[file]": ("file",),
    "array[any]": ("string", "integer", "float", "boolean", "object", "file"),
}


class Operation(msgspec.Struct, frozen=True):
    """`compute` makes the new value of the current one and the given one; `types` are those that can be changed so,
    None for all. `takes_value` is False where the current value is all that counts."""

    name: str
    compute: Callable[[Any, Any], Any]
    types: frozenset[str] | None
    takes_value: bool = True
    takes_variable: bool = True
    takes_constant: frozenset[str] = frozenset()

    def check(self, type_name: str, *, is_constant: bool) -> None:
        """Raises NodeFailed where a variable of the type can't be changed so, or not by this kind of input."""
        if self.types is not None and type_name.partition("[")[0] not in self.types:
            raise _refuse(f"Operation {self.name} is not supported for type {type_name}")
        allowed = type_name in self.takes_constant if is_constant else self.takes_variable
        if not allowed:
            given = "constant" if is_constant else "variable"
            raise _refuse(f"Input type {given} is not supported for operation {self.name}")

    def apply(self, current: Value, given: Value) -> Value:
        """The new value. Raises NodeFailed for a given value that does not fit the current one's type."""
        if self.takes_value:
            given = _parsed(current, given) if self.name == "set" else given
            if not self._fits(current, given):
                raise _refuse(f"Invalid input value {given}")
        try:
            changed = self.compute(current, given)
        except (OverflowError, ZeroDivisionError):
            raise _refuse(f"Invalid input value {given}") from None
        if isinstance(changed, (int, float)) and not _is_storable(changed):
            raise _refuse(f"Invalid input value {given}")
        if isinstance(changed, list) and len(changed) > MOST_ITEMS:
            raise _refuse(f"A list holds at most {MOST_ITEMS} items")
        return changed

    def _fits(self, current: Value, given: Value) -> bool:
        type_name = type_of(current)
        if type_name in _NUMBERS:
            return isinstance(given, (int, float)) and not (self.name == "/=" and given == 0)
        if not type_name.startswith("array"):
            return type_of(given) == type_name
        items = [given] if self.name == "append" else given
        return isinstance(items, list) and all(type_of(item) in _ITEM_TYPES[type_name] for item in items)


def type_of(value: Value) -> str:
    """Dify's name for a value's type. A list of nothing may become one of anything, so it is `array[any]`."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "float"
    if isinstance(value, str):
        return "string"
    if isinstance(value, dict):
        return "file" if is_artifact(value) else "object"
    types = {type_of(item) for item in value}
    if types and types <= _NUMBERS:
        return "array[number]"
    only = types.pop() if len(types) == 1 else "any"
    return f"array[{only}]" if only in ("string", "object", "boolean", "file") else "array[any]"


def _is_storable(number: float) -> bool:
    return math.isfinite(number) if isinstance(number, float) else -_LARGEST <= number < _LARGEST


def zero_of(value: Value) -> Value:
    """What a cleared variable holds: the empty value of its type. Raises NodeFailed for null, which has none."""
    if value is None:
        raise NodeFailed("unsupported variable type: none", error_type="WorkflowNodeError")
    return type(value)()


def _refuse(text: str) -> NodeFailed:
    return NodeFailed(text, error_type="")


def _parsed(current: Value, given: Value) -> Value:
    """The editor writes an object's constant as JSON text."""
    if type_of(current) != "object" or not isinstance(given, str):
        return given
    try:
        return json.loads(given)
    except ValueError:
        raise _refuse(f"Invalid input value {given}") from None


def _given(current: Value, given: Value) -> Value:
    return given


def _arithmetic(name: str, compute: Callable[[Any, Any], Any]) -> Operation:
    return Operation(name, compute, _NUMBERS, takes_variable=False, takes_constant=_NUMBERS)


def _of_list(name: str, compute: Callable[[Any, Any], Any], *, takes_value: bool) -> Operation:
    return Operation(name, compute, frozenset({"array"}), takes_value)


OPERATIONS: Mapping[str, Operation] = {
    each.name: each
    for each in (
        Operation("over-write", _given, None, takes_constant=_PLAIN | _NUMBERS),
        Operation("clear", lambda current, _: zero_of(current), None, takes_value=False),
        Operation("set", _given, _PLAIN | _NUMBERS, takes_variable=False, takes_constant=_PLAIN | _NUMBERS),
        _arithmetic("+=", operator.add),
        _arithmetic("-=", operator.sub),
        _arithmetic("*=", operator.mul),
        _arithmetic("/=", operator.truediv),
        _of_list("append", lambda current, given: [*current, given], takes_value=True),
        _of_list("extend", operator.add, takes_value=True),
        _of_list("remove-first", lambda current, _: current[1:], takes_value=False),
        _of_list("remove-last", lambda current, _: current[:-1], takes_value=False),
    )
}
"""By the names that documents have."""
