"""tool, where its provider is a workflow: another app of this server, run inside the run that calls it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, Self

from app.graph.nodes.kind import AppCall, Configuration, NodeKind
from app.graph.nodes.tool import Argument, Constant, Mixed, Variable, written_arguments
from app.graph.selectors import Selector, TextTemplate
from app.graph.variables import VariablePool


class WorkflowTool(NodeKind, frozen=True):
    """`names` are what the app may be called here: an id of the workspace that exported the file says nothing."""

    kind: ClassVar[str] = "tool"
    names: tuple[str, ...]
    arguments: tuple[tuple[str, Argument], ...]

    @classmethod
    def read(cls, configuration: Configuration) -> Self:
        written = (configuration.entries.get(key) for key in ("tool_name", "tool_label", "provider_name", "title"))
        names = tuple(dict.fromkeys(name for name in written if isinstance(name, str) and name))
        if not names:
            configuration.problem("it names no workflow: tool_name is missing")
        else:
            known = " or ".join(f"'{name}'" for name in names)
            configuration.warn(f"calls another app of this server: publish its workflow under the name {known}")
        return cls(names, tuple(_read_arguments(configuration)))

    @property
    def selectors(self) -> Iterable[Selector]:
        return (selector for _, argument in self.arguments for selector in argument.selectors)

    def execute(self, pool: VariablePool) -> AppCall:
        return AppCall(self.names, {name: argument.evaluate(pool) for name, argument in self.arguments})


def _read_arguments(configuration: Configuration) -> Iterator[tuple[str, Argument]]:
    for name, (form, value) in written_arguments(configuration).items():
        if form == "variable":
            yield name, Variable(configuration.selector(value, f"'{name}'"), required=False)
        else:
            text = TextTemplate.of(value) if form == "mixed" and isinstance(value, str) else None
            yield name, Mixed(text) if text is not None and any(text.selectors) else Constant(value)
