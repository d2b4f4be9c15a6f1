"""end: the run's outputs. A selector that finds nothing gives null, never an error."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Self

from app.graph.nodes.kind import Completed, Configuration, NodeKind
from app.graph.selectors import Selector
from app.graph.variables import VariablePool


class Speaker(NodeKind, frozen=True):
    """A kind whose outputs are the run's, and are told while it runs: `speech` is text and the values between it."""

    speech: tuple[str | Selector, ...]

    @property
    def selectors(self) -> Iterable[Selector]:
        return (part for part in self.speech if isinstance(part, tuple))


class End(Speaker, frozen=True):
    kind: ClassVar[str] = "end"
    outputs: tuple[tuple[str, Selector], ...]

    @classmethod
    def read(cls, configuration: Configuration) -> Self:
        outputs = configuration.bindings("outputs")
        lines = (part for _, selector in outputs for part in ("\n", selector))
        return cls(tuple(lines)[1:], outputs)

    def execute(self, pool: VariablePool) -> Completed:
        outputs = {name: pool.get(selector, None) for name, selector in self.outputs}
        return Completed(inputs=outputs, outputs=outputs)
