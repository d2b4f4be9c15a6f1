"""end: the run's outputs. A selector that finds nothing gives null, never an error."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Self

from app.graph.nodes.kind import Completed, Configuration, NodeKind
from app.graph.selectors import Selector
from app.graph.variables import VariablePool


class End(NodeKind, frozen=True):
    kind: ClassVar[str] = "end"
    outputs: tuple[tuple[str, Selector], ...]

    @classmethod
    def read(cls, configuration: Configuration) -> Self:
        return cls(configuration.bindings("outputs"))

    @property
    def selectors(self) -> Iterable[Selector]:
        return (selector for _, selector in self.outputs)

    def execute(self, pool: VariablePool) -> Completed:
        outputs = {name: pool.get(selector, None) for name, selector in self.outputs}
        return Completed(inputs=outputs, outputs=outputs)
