"""template-transform: a Jinja2 text over named values, rendered inline in the sandbox."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import jinja2

from app.graph.nodes.kind import Completed, Configuration, NodeKind, WorkerCall
from app.graph.sandbox import compile_template, render
from app.graph.selectors import Selector
from app.graph.values import Value, plain
from app.graph.variables import VariablePool

MOST_INLINE = 20_000  # characters


class TemplateTransform(NodeKind, frozen=True):
    kind: ClassVar[str] = "template-transform"
    template: jinja2.Template
    variables: tuple[tuple[str, Selector], ...]

    @classmethod
    def read(cls, configuration: Configuration) -> Self:
        return cls(read_template(configuration, configuration.text("template")), configuration.bindings("variables"))

    @property
    def selectors(self) -> Iterable[Selector]:
        return (selector for _, selector in self.variables)

    def execute(self, pool: VariablePool) -> Completed | WorkerCall:
        """Inline, unless the values are so large that rendering them would hold up everybody else."""
        values = {name: plain(pool.get(selector, None)) for name, selector in self.variables}
        if sum(map(_weight, values.values())) > MOST_INLINE:
            return WorkerCall("cpu", values)
        return Completed(inputs=values, outputs={"output": self.render(values)})

    def render(self, values: Mapping[str, Any]) -> str:
        """The text over the variables' values. Raises NodeFailed."""
        return render(self.template, values)


def _weight(value: Value) -> int:
    """Roughly the characters of a value: a template takes time in proportion to them, or worse."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(len(key) + _weight(item) for key, item in value.items())
    return sum(map(_weight, value)) if isinstance(value, list) else 1


def read_template(configuration: Configuration, source: str) -> jinja2.Template:
    """A node's template; one that can't be compiled is a problem, and an empty one takes its place."""
    try:
        return compile_template(source)
    except jinja2.TemplateSyntaxError as error:
        configuration.problem(f"line {error.lineno} of the template: {error.message}")
    except (RecursionError, MemoryError, SyntaxError, ValueError) as error:
        configuration.problem(f"the template can't be compiled: {error}")
    return compile_template("")
