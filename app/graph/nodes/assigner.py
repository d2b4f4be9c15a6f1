"""assigner: sets variables that live longer than one node, those of a loop above all.

An assigner has no outputs: it assigns in the pool, and the run's log keeps what it did. All its items are looked at
before the first is set, so one that fails has set nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Self

import msgspec

from app.errors import NodeFailed
from app.graph.nodes.kind import NOWHERE, Completed, Configuration, NodeKind
from app.graph.nodes.operations import OPERATIONS, Operation, type_of, zero_of
from app.graph.selectors import MISSING, Selector, as_selector
from app.graph.values import Value
from app.graph.variables import VariablePool

Find = Callable[[Selector], Any]


class Item(msgspec.Struct, frozen=True):
    """One assignment of the second version. `source` is the selector of a variable input, else `constant` counts."""

    target: Selector
    operation: Operation
    source: Selector | None
    constant: Value
    is_constant: bool

    def apply(self, find: Find) -> Value:
        """The new value, or MISSING where the input is null: then nothing is set. Raises NodeFailed."""
        current = _current(self.target, find)
        self.operation.check(type_of(current), is_constant=self.is_constant)
        if not self.operation.takes_value:
            return self.operation.apply(current, None)
        given = self.constant if self.source is None else find(self.source)
        if given is MISSING:
            raise _not_found(self.source or ())
        if given is None and self.source is not None:
            return MISSING
        return self.operation.apply(current, given)


class OldItem(msgspec.Struct, frozen=True):
    """The only assignment of the first version, which checks no types."""

    target: Selector
    mode: str
    source: Selector

    def apply(self, find: Find) -> Value:
        current = find(self.target)
        if current is MISSING:
            raise _refuse_old("assigned variable not found")
        if self.mode == "clear":
            return zero_of(current)
        given = find(self.source)
        if given is MISSING:
            raise _refuse_old("input value not found")
        if self.mode == "over-write":
            return given
        if not isinstance(current, list):
            raise _refuse_old("append mode requires an array variable")
        return [*current, given]


class Assigner(NodeKind, frozen=True):
    kind: ClassVar[str] = "assigner"
    items: tuple[Item | OldItem, ...]
    shown: Mapping[str, Any]
    """The second version's items as the document has them: the step's inputs."""

    @classmethod
    def read(cls, configuration: Configuration) -> Self:
        entries = configuration.entries
        if "items" in entries or str(entries.get("version")) == "2":
            written = configuration.mappings("items")
            return cls(tuple(_read_item(entry, configuration) for entry in written), {"items": written})
        return cls((_read_old_item(configuration),), {})

    @property
    def selectors(self) -> Iterable[Selector]:
        for item in self.items:
            yield item.target
            if item.source is not None:
                yield item.source

    @property
    def assigns(self) -> tuple[Selector, ...]:
        return tuple(item.target for item in self.items)

    def execute(self, pool: VariablePool) -> Completed:
        """Later items see what earlier ones will set."""
        set_here: dict[Selector, Value] = {}

        def find(selector: Selector) -> Value:
            return set_here[selector] if selector in set_here else pool.get(selector)

        for item in self.items:
            value = item.apply(find)
            if value is not MISSING:
                set_here[item.target] = value
        for target, value in set_here.items():
            pool.assign(target, value)
        updated = [
            {"name": target[1], "selector": list(target), "value_type": type_of(value), "new_value": value}
            for target, value in set_here.items()
        ]
        named = {} if not self.shown else {target[1]: value for target, value in set_here.items()}
        inputs = self.shown or {"value": updated[0]["new_value"]}
        return Completed(inputs, {}, process_data={**named, "__updated_variables": updated})


def _current(target: Selector, find: Find) -> Value:
    """A part of a variable can be read but not set."""
    value = find(target) if len(target) == 2 else MISSING
    if value is MISSING:
        raise _not_found(target)
    return value


def _not_found(selector: Selector) -> NodeFailed:
    return NodeFailed(f"Variable {list(selector)} not found", error_type="")


def _refuse_old(text: str) -> NodeFailed:
    return NodeFailed(text, error_type="WorkflowNodeError")


def _read_item(entry: Mapping[str, Any], configuration: Configuration) -> Item:
    name, input_type, value = entry.get("operation"), entry.get("input_type"), entry.get("value")
    if name not in OPERATIONS:
        configuration.problem(f"operation {name!r} is not known; known operations: {', '.join(OPERATIONS)}")
    if input_type not in ("variable", "constant"):
        configuration.problem(f"input_type must be 'variable' or 'constant', got {input_type!r}")
    operation = OPERATIONS.get(str(name), OPERATIONS["clear"])
    is_constant = input_type == "constant"
    source = None
    if operation.takes_value and not is_constant and value is not None:
        source = configuration.selector(value, f"operation '{name}'")
    return Item(
        target=configuration.selector(entry.get("variable_selector"), "an assignment"),
        operation=operation,
        source=source,
        constant=value,
        is_constant=is_constant,
    )


def _read_old_item(configuration: Configuration) -> OldItem:
    mode = str(configuration.entries.get("write_mode"))
    if mode not in ("over-write", "append", "clear"):
        configuration.problem(f"write_mode must be 'over-write', 'append' or 'clear', got {mode!r}")
    written = configuration.entries.get("input_variable_selector")
    return OldItem(
        target=configuration.selector(configuration.entries.get("assigned_variable_selector"), "an assignment"),
        mode=mode,
        source=as_selector(written) or NOWHERE if mode == "clear" else configuration.selector(written, "an assignment"),
    )
