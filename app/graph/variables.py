"""The values of a run, by node id and name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from app.domain.artifact import is_artifact
from app.graph.selectors import MISSING, Selector
from app.graph.values import FILE_ATTRIBUTES, Value

__all__ = ["MISSING", "VariablePool"]


class VariablePool(msgspec.Struct, frozen=True):
    """What the nodes of a run can read. It grows: `add` gives a node's outputs once, `assign` changes a variable.

    Besides the nodes' outputs it has the namespaces `sys` and `env`. The start variables lie under the start node's
    id from the beginning: they are the start node's inputs and outputs alike. A round of a container has a pool of its
    own (`within`), with the container's variables under its id: `item` and `index` of an iteration, a loop's own.

    `assigned` is what nodes have assigned here since somebody last emptied it: the run's log keeps it with the step.
    """

    values: dict[str, Mapping[str, Any]]
    around: VariablePool | None = None
    assigned: list[tuple[Selector, Value]] = []

    @classmethod
    def of(cls, values: Mapping[str, Mapping[str, Any]]) -> VariablePool:
        return cls(dict(values))

    def add(self, node_id: str, outputs: Mapping[str, Any]) -> None:
        self.values[node_id] = outputs

    def within(self, node_id: str, variables: Mapping[str, Any], *, shared: bool = False) -> VariablePool:
        """The pool of a round: all of this one as it is now, and the container's variables.

        Where it is `shared`, what is assigned there to a variable of this pool is assigned here too.
        """
        return VariablePool({**self.values, node_id: variables}, self if shared else None)

    def assign(self, selector: Selector, value: Value) -> None:
        """Gives the variable (node id or namespace, name) a new value, for every node that reads it from now on.

        A node may call it while it executes. Values are replaced and never changed in place: append makes a new list.
        """
        self._set(selector, value)
        self.assigned.append((selector, value))

    def _set(self, selector: Selector, value: Value) -> None:
        owner, name = selector[0], selector[1]
        self.values[owner] = {**self.values.get(owner, {}), name: value}
        if self.around is not None and owner in self.around.values:
            self.around._set(selector, value)

    def get(self, selector: Selector, default: Value = MISSING) -> Value:
        """The value, or `default` where there is none; a null that a node gave is a value."""
        value = self.values.get(selector[0], {}).get(selector[1], MISSING)
        for name in selector[2:]:
            value = _attribute(value, name)
        return default if value is MISSING else value


def _attribute(value: Value, name: str) -> Value:
    if is_artifact(value):
        read = FILE_ATTRIBUTES.get(name)
        return read(value) if read else MISSING
    return value.get(name, MISSING) if isinstance(value, dict) else MISSING
