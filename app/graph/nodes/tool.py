"""tool: a call of the catalogue. It never runs inline; its result is the call that a worker takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Self

import msgspec

from app.errors import InvalidParam, NodeFailed
from app.graph.nodes.kind import Configuration, NodeKind, WorkerCall, selectors_of
from app.graph.selectors import MISSING, Selector, TextTemplate
from app.graph.tools import TEXT_TO_IMAGE, Tool, check_argument, check_arguments, find_tool, tool_names
from app.graph.values import Value
from app.graph.variables import VariablePool


class Constant(msgspec.Struct, frozen=True):
    value: Value

    @property
    def selectors(self) -> Iterable[Selector]:
        return ()

    def evaluate(self, pool: VariablePool) -> Value:
        return self.value


class Mixed(msgspec.Struct, frozen=True):
    """A text with references in it."""

    text: TextTemplate

    @property
    def selectors(self) -> Iterable[Selector]:
        return selectors_of(self.text)

    def evaluate(self, pool: VariablePool) -> str:
        return self.text.render(pool.get)


class Variable(msgspec.Struct, frozen=True):
    """A value as it is. Where the selector finds nothing an optional argument is left out, a required one fails."""

    selector: Selector
    required: bool

    @property
    def selectors(self) -> Iterable[Selector]:
        return (self.selector,)

    def evaluate(self, pool: VariablePool) -> Value:
        value = pool.get(self.selector)
        if value is not MISSING:
            return value
        if self.required:
            raise NodeFailed(f"Variable {list(self.selector)} does not exist", error_type="ToolParameterError")
        return None


Argument = Constant | Mixed | Variable


class ToolCall(NodeKind, frozen=True):
    """`arguments` in the order of the document; what is null there is absent here."""

    kind: ClassVar[str] = "tool"
    retries: ClassVar[bool] = True
    tool: Tool
    arguments: tuple[tuple[str, Argument], ...]

    @classmethod
    def read(cls, configuration: Configuration) -> Self:
        provider, name = configuration.text("provider_id"), configuration.text("tool_name")
        tool = find_tool(provider, name)
        if tool is None:
            configuration.problem(f"tool '{provider} {name}' is not known; known tools: {tool_names()}")
            return cls(TEXT_TO_IMAGE, ())
        return cls(tool, tuple(_read_arguments(tool, configuration)))

    @property
    def selectors(self) -> Iterable[Selector]:
        return (selector for _, argument in self.arguments for selector in argument.selectors)

    def execute(self, pool: VariablePool) -> WorkerCall:
        values = {name: argument.evaluate(pool) for name, argument in self.arguments}
        return WorkerCall(self.tool.work_class, check_arguments(self.tool, values))


def _read_arguments(tool: Tool, configuration: Configuration) -> Iterator[tuple[str, Argument]]:
    """Both forms of Dify: plain values and {type, value}. Constants are checked here, once for all runs."""
    written = _written_arguments(configuration)
    for name, (form, value) in written.items():
        parameter = tool.parameter(name)
        if parameter is None:
            known = ", ".join(parameter.name for parameter in tool.parameters)
            configuration.problem(f"'{name}' is not a parameter of {tool.name}; it takes {known}")
            continue
        argument = _argument(form, value, parameter.required, f"'{name}'", configuration)
        if isinstance(argument, Constant):
            try:
                check_argument(parameter, argument.value)
            except InvalidParam as error:
                configuration.problem(error.message)
        yield name, argument
    for parameter in tool.parameters:
        if parameter.required and parameter.name not in written:
            configuration.problem(f"'{parameter.name}' of {tool.name} is required")


def _written_arguments(configuration: Configuration) -> dict[str, tuple[str, Any]]:
    """name → (form, value) of every argument that is not null; a parameter wins over a setting of the same name."""
    settings = _entries(configuration.mapping("tool_configurations"), constant="constant")
    parameters = _entries(configuration.mapping("tool_parameters"), constant="mixed")
    return {**settings, **parameters}


def _entries(entries: Mapping[str, Any], constant: str) -> dict[str, tuple[str, Any]]:
    """`constant` is how a constant, plain or typed, is read: Dify fills its references among the parameters only."""
    typed = {name: entry if isinstance(entry, dict) else {"value": entry} for name, entry in entries.items()}
    forms = {name: entry.get("type", "constant") for name, entry in typed.items()}
    return {
        name: (constant if forms[name] == "constant" else str(forms[name]), entry.get("value"))
        for name, entry in typed.items()
        if entry.get("value") is not None
    }


def _argument(form: str, value: Value, required: bool, use: str, configuration: Configuration) -> Argument:
    if form == "variable":
        return Variable(configuration.selector(value, use), required)
    if form == "mixed" and isinstance(value, str):
        text = TextTemplate.of(value)
        return Mixed(text) if any(text.selectors) else Constant(value)
    if form not in ("mixed", "constant"):
        configuration.problem(f"{use} has the form '{form}'; known forms: mixed, variable, constant")
    return Constant(value)
