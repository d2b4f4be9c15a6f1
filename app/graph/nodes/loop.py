"""loop: its nodes again and again, until a condition holds, a loop-end is reached, or the rounds are used up.

Its variables lie in the pool under its id. Nodes inside change them with `VariablePool.assign`; the next round, and the
loop's outputs, have what the last one left.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import msgspec

from app.errors import NodeFailed
from app.graph.nodes.if_else import Case, holds, read_case
from app.graph.nodes.kind import Completed, Configuration, NodeKind
from app.graph.rounds import Container, RoundEnd, Rounds
from app.graph.selectors import MISSING, Selector, as_selector
from app.graph.values import Value
from app.graph.variables import VariablePool

_EMPTY: Mapping[str, Value] = {"string": "", "number": 0, "boolean": False, "object": {}}
_PYTHON: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "number": (int, float),
    "integer": int,
    "float": (int, float),
    "boolean": bool,
    "object": dict,
}


class LoopStart(NodeKind, frozen=True):
    """Marks where the rounds begin. It is no step of a run."""

    kind: ClassVar[str] = "loop-start"

    @classmethod
    def read(cls, configuration: Configuration) -> Self:
        return cls()


class LoopEnd(NodeKind, frozen=True):
    """Reached, it makes its round the last one of the loop around it."""

    kind: ClassVar[str] = "loop-end"

    @classmethod
    def read(cls, configuration: Configuration) -> Self:
        return cls()

    def execute(self, pool: VariablePool) -> Completed:
        return Completed({}, {})


class LoopVariable(msgspec.Struct, frozen=True):
    """Begins as the value that `selector` finds, or as `constant` where there is none."""

    label: str
    selector: Selector | None
    constant: Value


class Loop(Container, frozen=True):
    kind: ClassVar[str] = "loop"
    node_id: str
    most_rounds: int
    variables: tuple[LoopVariable, ...]
    until: Case

    @classmethod
    def read(cls, configuration: Configuration) -> Self:
        entries = configuration.entries
        keys = {"conditions": "break_conditions", "logical_operator": "logical_operator"}
        until = {"case_id": "break"} | {key: entries.get(name) for key, name in keys.items()}
        written = configuration.mappings("loop_variables")
        return cls(
            configuration.node_id,
            _read_count(configuration),
            tuple(_read_variable(entry, configuration) for entry in written),
            read_case(until, configuration),
        )

    @property
    def selectors(self) -> Iterable[Selector]:
        return (variable.selector for variable in self.variables if variable.selector is not None)

    @property
    def inner_selectors(self) -> Iterable[Selector]:
        return self.until.selectors

    def execute(self, pool: VariablePool) -> Rounds:
        variables: dict[str, Value] = {}
        for each in self.variables:
            value = each.constant if each.selector is None else pool.get(each.selector)
            if value is MISSING:
                raise NodeFailed(f"Invalid value for loop variable {each.label}", error_type="ValueError")
            variables[each.label] = value
        return _LoopRounds(self, variables, pool)


class _LoopRounds(Rounds):
    def __init__(self, node: Loop, variables: Mapping[str, Value], around: VariablePool) -> None:
        super().__init__({"loop_count": node.most_rounds, **variables}, node.most_rounds)
        self._node = node
        self._variables = dict(variables)
        self._by_round: dict[str, dict[str, Value]] = {}
        self._failure: NodeFailed | None = None
        self.is_over = self._has_broken = self._breaks_at_once(around)
        self.steps = 0 if self.is_over else self.length

    def _breaks_at_once(self, around: VariablePool) -> bool:
        """Conditions may read what only a round gives, so what can't be compared yet is no reason to stop."""
        try:
            return self._breaks(self.pool(0, around))
        except NodeFailed:
            return False

    def _breaks(self, pool: VariablePool) -> bool:
        return bool(self._node.until.conditions) and holds(self._node.until, pool)

    def pool(self, number: int, around: VariablePool) -> VariablePool:
        return around.within(self._node.node_id, dict(self._variables), shared=True)

    def end(self, number: int, ended: RoundEnd) -> None:
        super().end(number, ended)
        left = ended.pool.values[self._node.node_id]
        self._variables = {label: left.get(label) for label in self._variables}
        self._by_round[str(number)] = self._variables
        self._failure = ended.failure
        if self._failure is None:
            try:
                self._has_broken = ended.breaks or self._breaks(ended.pool)
            except NodeFailed as error:
                self._failure = error
        self.is_over = self._has_broken or self._failure is not None

    @property
    def variables(self) -> Mapping[str, Value]:
        return self._variables

    @property
    def left(self) -> Mapping[str, Value]:
        """What the last round left behind."""
        return {**self._variables, "loop_round": len(self.usages)}

    def outcome(self) -> Completed:
        if self._failure is not None:
            raise self._failure
        return Completed(self.inputs, self.left, metadata=self.metadata())

    def metadata(self) -> dict[str, Any]:
        ended = "loop_break" if self._has_broken else "loop_completed"
        return {
            **super().metadata(),
            "loop_duration_map": self.seconds(),
            "loop_variable_map": self._by_round,
            "completed_reason": "error" if self._failure is not None else ended,
        }


def _read_count(configuration: Configuration) -> int:
    written: Any = configuration.entries.get("loop_count")
    try:
        number = int(str(written))
    except ValueError:
        number = 0
    if number < 1:
        configuration.problem(f"loop_count must be a number from 1 on, got {written!r}")
    return number


def _read_variable(entry: Mapping[str, Any], configuration: Configuration) -> LoopVariable:
    label, value = str(entry.get("label")), entry.get("value")
    if entry.get("value_type") == "variable":
        selector = as_selector(value)
        if selector is None:
            configuration.problem(f"Invalid value for loop variable {label}: it needs a selector, got {value!r}")
        return LoopVariable(label, selector, None)
    try:
        return LoopVariable(label, None, _constant(str(entry.get("var_type") or "string"), value))
    except ValueError:
        configuration.problem(f"Invalid value for loop variable {label}: {value!r} is no {entry.get('var_type')}")
        return LoopVariable(label, None, None)


def _constant(kind: str, value: Value) -> Value:
    """A constant of the type; anything but a string may be written as JSON text. Raises ValueError."""
    if value is None or (value == "" and kind != "string"):
        return _EMPTY.get(kind, [] if kind.startswith("array") else None)
    wanted = list if kind.startswith("array") else _PYTHON.get(kind, object)
    if not isinstance(value, wanted) and isinstance(value, str):
        value = json.loads(value.lower() if kind == "boolean" else value)
    if not isinstance(value, wanted):
        raise ValueError(kind)
    return value
