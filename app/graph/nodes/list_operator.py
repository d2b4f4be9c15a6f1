"""list-operator: a list filtered, one item taken out of it, sorted, cut off; in this order."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Self

import msgspec

from app.domain.artifact import is_artifact
from app.errors import NodeFailed
from app.graph.nodes.kind import Completed, Configuration, NodeKind, selectors_of
from app.graph.selectors import MISSING, Selector, TextTemplate
from app.graph.values import FILE_ATTRIBUTES, Value
from app.graph.variables import VariablePool

Test = Callable[[Any, Any], bool]

_ON_TEXT: Mapping[str, Test] = {
    "contains": lambda item, value: value in item,
    "not contains": lambda item, value: value not in item,
    "start with": lambda item, value: item.startswith(value),
    "end with": lambda item, value: item.endswith(value),
    "is": operator.eq,
    "is not": operator.ne,
    "in": lambda item, value: item in value,
    "not in": lambda item, value: item not in value,
    "empty": lambda item, value: item == "",
    "not empty": lambda item, value: item != "",
}
_ON_NUMBERS: Mapping[str, Test] = {
    "=": operator.eq,
    "≠": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "≤": operator.le,
    "≥": operator.ge,
}
_ON_BOOLEANS: Mapping[str, Test] = {name: _ON_TEXT[name] for name in ("is", "is not")}
_ON_CHOICES: Mapping[str, Test] = {name: _ON_TEXT[name] for name in ("in", "not in")}
_OPERATORS = frozenset((*_ON_TEXT, *_ON_NUMBERS))
_CHOICES = frozenset({"type", "transfer_method"})


class Condition(msgspec.Struct, frozen=True):
    """`key` names an attribute of a file; other lists have none."""

    key: str
    operator: str
    value: TextTemplate | tuple[Any, ...] | bool

    def keep(self, items: list[Any], kind: str, pool: VariablePool) -> list[Any]:
        """The items for which it holds."""
        value = self.value.render(pool.get) if isinstance(self.value, TextTemplate) else self.value
        if kind == "file":
            return self._filter_files(items, value)
        if kind == "boolean":
            if not isinstance(value, bool):
                said = f"Boolean filter expects a boolean value, got {type(value)}"
                raise NodeFailed(said, error_type="ValueError")
            return self._filtered(items, _ON_BOOLEANS, value)
        if not isinstance(value, str):
            raise NodeFailed(f"Invalid filter value: {value}", error_type="InvalidFilterValueError")
        if kind == "number":
            return self._filtered(items, _ON_NUMBERS, _number(value))
        return self._filtered(items, _ON_TEXT, value)

    def _filter_files(self, files: list[Any], value: Value) -> list[Any]:
        if isinstance(value, bool):
            raise NodeFailed(f"File filter expects a string value, got {type(value)}", error_type="ValueError")
        if self.key not in FILE_ATTRIBUTES or not (isinstance(value, str) or self.key in _CHOICES):
            raise NodeFailed(f"Invalid key: {self.key}", error_type="InvalidKeyError")
        tests = _ON_NUMBERS if self.key == "size" else _ON_CHOICES if self.key in _CHOICES else _ON_TEXT
        return self._filtered(files, tests, _number(value) if self.key == "size" else value, FILE_ATTRIBUTES[self.key])

    def _filtered(
        self, items: list[Any], tests: Mapping[str, Test], value: Value, read: Callable[[Any], Any] | None = None
    ) -> list[Any]:
        test = tests.get(self.operator)
        if test is None:
            raise NodeFailed(f"Invalid condition: {self.operator}", error_type="InvalidConditionError")
        return [item for item in items if test(read(item) if read else item, value)]


class ListOperator(NodeKind, frozen=True):
    """A step that is not asked for is None."""

    kind: ClassVar[str] = "list-operator"
    variable: Selector
    conditions: tuple[Condition, ...] = ()
    serial: TextTemplate | None = None
    order: tuple[str, bool] | None = None  # (attribute of a file, whether the largest comes first)
    size: int | None = None

    @classmethod
    def read(cls, configuration: Configuration) -> Self:
        filtering, extracting, ordering, cutting = (
            each if (each := configuration.mapping(name)).get("enabled") else None
            for name in ("filter_by", "extract_by", "order_by", "limit")
        )
        return cls(
            variable=configuration.selector(configuration.entries.get("variable"), "the list"),
            conditions=() if filtering is None else tuple(_conditions(configuration, filtering)),
            serial=None if extracting is None else TextTemplate.of(str(extracting.get("serial", "1"))),
            order=None if ordering is None else _order(configuration, ordering),
            size=None if cutting is None else _size(configuration, cutting.get("size", -1)),
        )

    @property
    def selectors(self) -> Iterable[Selector]:
        yield self.variable
        for value in (*(condition.value for condition in self.conditions), self.serial):
            yield from selectors_of(value)

    def execute(self, pool: VariablePool) -> Completed:
        found = pool.get(self.variable)
        if found is MISSING:
            raise NodeFailed(f"Variable not found for selector: {list(self.variable)}")
        items = found or []
        kind = _kind(items)
        if kind is None:
            raise NodeFailed(f"Variable {list(self.variable)} is not an array type, actual type: {type(found)}")
        shown = {"variable": items}
        try:
            done = self._done(list(items), kind, pool) if items else []
        except NodeFailed as failed:
            raise NodeFailed(failed.message, error_type=failed.error_type, process_data=shown) from None
        ends = {"first_record": done[0] if done else None, "last_record": done[-1] if done else None}
        return Completed(inputs=shown, outputs={"result": done, **ends}, process_data=shown)

    def _done(self, items: list[Any], kind: str, pool: VariablePool) -> list[Any]:
        for condition in self.conditions:
            items = condition.keep(items, kind, pool)
        if self.serial is not None:
            items = [_taken(items, self.serial.render(pool.get))]
        if self.order is not None:
            items = _sorted(items, kind, *self.order)
        return items if self.size is None else items[: self.size]


def _kind(items: Value) -> str | None:
    """What the items of a list are, all of them; None for a mixture, and for what is no list."""
    if not isinstance(items, list):
        return None
    for kind, is_one in _KINDS.items():
        if all(map(is_one, items)):
            return kind
    return None


_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "string": lambda item: isinstance(item, str),
    "boolean": lambda item: isinstance(item, bool),
    "number": lambda item: isinstance(item, (int, float)) and not isinstance(item, bool),
    "file": is_artifact,
}


def _number(text: Value) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise NodeFailed(str(error), error_type="ValueError") from None


def _taken(items: list[Any], serial: str) -> Value:
    """The item with this number, counted from 1."""
    try:
        number = int(serial)
    except ValueError as error:
        raise NodeFailed(str(error), error_type="ValueError") from None
    if number < 1:
        raise NodeFailed(f"Invalid serial index: must be >= 1, got {number}", error_type="ValueError")
    if number > len(items):
        said = f"Invalid serial index: must be <= {len(items)}, got {number}"
        raise NodeFailed(said, error_type="InvalidKeyError")
    return items[number - 1]


def _sorted(items: list[Any], kind: str, key: str, is_falling: bool) -> list[Any]:
    if kind != "file":
        return sorted(items, reverse=is_falling)
    if key not in FILE_ATTRIBUTES:
        raise NodeFailed(f"Invalid order key: {key}", error_type="InvalidKeyError")
    return sorted(items, key=FILE_ATTRIBUTES[key], reverse=is_falling)


def _conditions(configuration: Configuration, filtering: Mapping[str, Any]) -> Iterable[Condition]:
    for entry in configuration.mappings("conditions", filtering):
        name, value = str(entry.get("comparison_operator") or "contains"), entry.get("value")
        if name not in _OPERATORS:
            configuration.problem(f"unknown operator '{name}'; operators: {', '.join(sorted(_OPERATORS))}")
        yield Condition(str(entry.get("key") or ""), name, _value(value))


def _value(value: object) -> TextTemplate | tuple[Any, ...] | bool:
    if isinstance(value, bool):
        return value
    return tuple(value) if isinstance(value, list) else TextTemplate.of("" if value is None else str(value))


def _order(configuration: Configuration, ordering: Mapping[str, Any]) -> tuple[str, bool]:
    direction = ordering.get("value") or "asc"
    if direction not in ("asc", "desc"):
        configuration.problem(f"order_by needs asc or desc, got {direction!r}")
    return str(ordering.get("key") or ""), direction == "desc"


def _size(configuration: Configuration, size: object) -> int:
    try:
        return int(str(size))
    except ValueError:
        configuration.problem(f"limit.size must be a whole number, got {size!r}")
        return 0
