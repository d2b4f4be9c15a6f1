"""variable-aggregator: the first of several values that is there, where branches that exclude each other meet again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

from app.graph.nodes.kind import Completed, Configuration, NodeKind
from app.graph.selectors import MISSING, Selector
from app.graph.variables import VariablePool

OLD_NAME = "variable-assigner"
"""What files from before groups call this kind; `assigner` is another one."""


class VariableAggregator(NodeKind, frozen=True):
    """A value counts when it is there, whatever it is: null and an empty text are values, a skipped branch has none."""

    kind: ClassVar[str] = "variable-aggregator"
    candidates: tuple[Selector, ...]
    groups: tuple[tuple[str, tuple[Selector, ...]], ...] | None
    """Where the document groups: each group's name and its candidates, found under [node id, name, "output"]."""

    @classmethod
    def read(cls, configuration: Configuration) -> Self:
        advanced = configuration.mapping("advanced_settings")
        if not advanced.get("group_enabled"):
            return cls(_read_candidates(configuration.entries, configuration), None)
        groups = configuration.mappings("groups", advanced)
        return cls(
            (), tuple((str(group.get("group_name")), _read_candidates(group, configuration)) for group in groups)
        )

    @property
    def selectors(self) -> Iterable[Selector]:
        yield from self.candidates
        for _, candidates in self.groups or ():
            yield from candidates

    def execute(self, pool: VariablePool) -> Completed:
        inputs: dict[str, Any] = {}
        if self.groups is None:
            return Completed(inputs, _first(self.candidates, pool, inputs))
        found = {name: _first(candidates, pool, inputs) for name, candidates in self.groups}
        return Completed(inputs, {name: output for name, output in found.items() if output})


def _first(candidates: Iterable[Selector], pool: VariablePool, inputs: dict[str, Any]) -> dict[str, Any]:
    """The output of the first candidate that is there, noted among the inputs; empty where none is."""
    for selector in candidates:
        value = pool.get(selector)
        if value is not MISSING:
            inputs[".".join(selector[1:])] = value
            return {"output": value}
    return {}


def _read_candidates(entry: Mapping[str, Any], configuration: Configuration) -> tuple[Selector, ...]:
    written = entry.get("variables") or []
    if not isinstance(written, list):
        configuration.problem("variables must be a list of selectors")
        return ()
    return tuple(configuration.selector(item, "a candidate") for item in written)
