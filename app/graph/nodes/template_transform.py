"""template-transform: a Jinja2 text over named values, rendered inline in the sandbox."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Self

import jinja2

from app.graph.nodes.kind import Completed, Configuration, NodeKind
from app.graph.sandbox import compile_template, render
from app.graph.selectors import Selector
from app.graph.values import plain
from app.graph.variables import VariablePool


class TemplateTransform(NodeKind, frozen=True):
    kind: ClassVar[str] = "template-transform"
    template: jinja2.Template
    variables: tuple[tuple[str, Selector], ...]

    @classmethod
    def read(cls, configuration: Configuration) -> Self:
        return cls(_compile(configuration), configuration.bindings("variables"))

    @property
    def selectors(self) -> Iterable[Selector]:
        return (selector for _, selector in self.variables)

    def execute(self, pool: VariablePool) -> Completed:
        values = {name: plain(pool.get(selector, None)) for name, selector in self.variables}
        return Completed(inputs=values, outputs={"output": render(self.template, values)})


def _compile(configuration: Configuration) -> jinja2.Template:
    try:
        return compile_template(configuration.text("template"))
    except jinja2.TemplateSyntaxError as error:
        configuration.problem(f"line {error.lineno} of the template: {error.message}")
    except (RecursionError, MemoryError, SyntaxError, ValueError) as error:
        configuration.problem(f"the template can't be compiled: {error}")
    return compile_template("")
