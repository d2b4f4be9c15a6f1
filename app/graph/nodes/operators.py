"""The comparison operators of if-else, as one table.

Each takes the actual value and the expected one (a text, a list or a boolean, as the document has it) and raises
NodeFailed where the two can't be compared. Every `not` is the plain opposite of its operator, on null too.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

from app.errors import NodeFailed
from app.graph.values import Value

Comparison = Callable[[Any, Any], bool]


def _refuse(text: str) -> NodeFailed:
    return NodeFailed(text, error_type="")


def _is_number(value: Value) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(value: Value) -> float:
    """What a condition compares with; whole numbers stay exact."""
    if _is_number(value):
        return value
    text = str(value).strip()
    try:
        return int(text) if text.lstrip("+-").isdecimal() else float(text)
    except ValueError:
        raise _refuse(f"Cannot convert '{value}' to number") from None


def _boolean(value: Value) -> bool:
    """true, false or a whole number, as JSON or as text."""
    try:
        parsed = json.loads(value.strip().lower()) if isinstance(value, str) else value
    except ValueError:
        parsed = None
    if not isinstance(parsed, int):
        raise _refuse(f"Cannot convert '{value}' to boolean")
    return bool(parsed)


def _holds(items: list[Any], expected: Value) -> bool:
    """Whether the expected value is one of the items. A document writes booleans as text; nothing else is converted."""
    if items and all(isinstance(item, bool) for item in items):
        return any(_is_boolean(item, expected) for item in items)
    return expected in items


def _is_boolean(actual: bool, expected: Value) -> bool:
    """What is no boolean is another value, and no reason to fail."""
    try:
        return actual is _boolean(expected)
    except NodeFailed:
        return False


def _contains(actual: Value, expected: Value) -> bool:
    if not actual:
        return False
    if isinstance(actual, str):
        return str(expected) in actual
    if isinstance(actual, list):
        return _holds(actual, expected)
    raise _refuse("Invalid actual value type: string or array")


def _affix(test: Callable[[str, str], bool]) -> Comparison:
    def check(actual: Value, expected: Value) -> bool:
        if not actual:
            return False
        if not isinstance(actual, str):
            raise _refuse("Invalid actual value type: string")
        return test(actual, str(expected))

    return check


def _is(actual: Value, expected: Value) -> bool:
    if actual is None:
        return False
    if isinstance(actual, str):
        return bool(actual == expected)
    if isinstance(actual, bool):
        return actual is _boolean(expected)
    raise _refuse("Invalid actual value type: string or boolean")


def _in(actual: Value, expected: Value) -> bool:
    if not actual:
        return False
    if not isinstance(expected, list):
        raise _refuse("Invalid expected value type: array")
    return any(_is_boolean(actual, item) if isinstance(actual, bool) else actual == item for item in expected)


def _equal(actual: Value, expected: Value) -> bool:
    if actual is None:
        return False
    if isinstance(actual, bool):
        return actual == _boolean(expected)
    if not _is_number(actual):
        raise _refuse("Invalid actual value type: number")
    return bool(actual == _number(expected))


def _order(test: Callable[[Any, Any], bool]) -> Comparison:
    def check(actual: Value, expected: Value) -> bool:
        if actual is None:
            return False
        if isinstance(actual, bool):
            return test(actual, _boolean(expected))
        if not _is_number(actual):
            raise _refuse("Invalid actual value type: number")
        return test(actual, _number(expected))

    return check


def _all_of(actual: Value, expected: Value) -> bool:
    if not isinstance(expected, list) or not _is_homogeneous(expected):
        raise _refuse("all of operator expects homogeneous list of strings or booleans")
    if isinstance(actual, str):
        return bool(actual) and all(isinstance(item, str) and item in actual for item in expected)
    return isinstance(actual, list) and bool(actual) and all(_holds(actual, item) for item in expected)


def _is_homogeneous(items: list[Any]) -> bool:
    return all(isinstance(item, str) for item in items) or all(isinstance(item, bool) for item in items)


def _is_empty(actual: Value, expected: Value) -> bool:
    return not actual


def _is_null(actual: Value, expected: Value) -> bool:
    return actual is None


def _not(comparison: Comparison) -> Comparison:
    return lambda actual, expected: not comparison(actual, expected)


OPERATORS: Mapping[str, Comparison] = {
    "contains": _contains,
    "not contains": _not(_contains),
    "start with": _affix(str.startswith),
    "end with": _affix(str.endswith),
    "is": _is,
    "is not": _not(_is),
    "empty": _is_empty,
    "not empty": _not(_is_empty),
    "in": _in,
    "not in": _not(_in),
    "=": _equal,
    "≠": _not(_equal),
    ">": _order(operator.gt),
    "<": _order(operator.lt),
    "≥": _order(operator.ge),
    "≤": _order(operator.le),
    "null": _is_null,
    "not null": _not(_is_null),
    "exists": _not(_is_null),
    "not exists": _is_null,
    "all of": _all_of,
}
