"""tool: a call of the catalogue. It never runs inline; its result is the call that a worker takes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import msgspec

from app.errors import NodeFailed
from app.graph.nodes.kind import Configuration, NodeKind, WorkerCall, selectors_of
from app.graph.selectors import MISSING, Selector, TextTemplate
from app.graph.tools import AnyTool, find_tool, why_unknown
from app.graph.tools.comfyui import is_graph_text
from app.graph.tools.comfyui_tool import GraphTool
from app.graph.tools.parameters import Review
from app.graph.tools.text_to_image import TEXT_TO_IMAGE
from app.graph.values import Value
from app.graph.variables import VariablePool

_EMPTY: tuple[Value, ...] = (None, [], "")
_OTHER_TYPES = {
    "api": "the file does not hold an API tool's definition; an http-request node can call the address",
    "mcp": "tools of MCP servers can't be called here; an http-request node can call a service's own address",
    "app": "an app as a tool can't be called here; publish it as a workflow, and call that",
    "dataset-retrieval": "there are no knowledge bases here",
}


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


class Json(msgspec.Struct, frozen=True):
    """A text with references in it that is JSON once they are filled in.

    Values are filled in as they are; where that makes no JSON, because a quote or a line's end in one broke it, as the
    inside of a JSON string.
    """

    text: TextTemplate

    @property
    def selectors(self) -> Iterable[Selector]:
        return selectors_of(self.text)

    def evaluate(self, pool: VariablePool) -> str:
        plain = self.text.render(pool.get)
        if is_graph_text(plain):
            return plain
        return "".join(part if isinstance(part, str) else _quoted(part, pool) for part in self.text.parts)


def _quoted(selector: Selector, pool: VariablePool) -> str:
    return json.dumps(TextTemplate((selector,)).render(pool.get), ensure_ascii=False)[1:-1]


Argument = Constant | Mixed | Json | Variable


class ToolCall(NodeKind, frozen=True):
    """`arguments` in the order of the document; what is null there is absent here.

    `info` is told of each run. `model` is what the document asks for of somebody else's models, where it says so, and
    `loras` are those that it names.
    """

    kind: ClassVar[str] = "tool"
    retries: ClassVar[bool] = True
    tool: AnyTool
    arguments: tuple[tuple[str, Argument], ...]
    info: Mapping[str, Any] = {}
    model: str = ""
    loras: tuple[str, ...] = ()

    @classmethod
    def read(cls, configuration: Configuration) -> Self:
        provider, name = configuration.text("provider_id"), configuration.text("tool_name")
        tool = find_tool(provider, name)
        if tool is None:
            other = _OTHER_TYPES.get(str(configuration.entries.get("provider_type")))
            configuration.problem(f"tool '{provider} {name}': {other}" if other else why_unknown(provider, name))
            return cls(TEXT_TO_IMAGE, ())
        arguments, review = _read_arguments(tool, configuration)
        return cls(tool, tuple(arguments.items()), _info(configuration), review.model, review.loras)

    @property
    def selectors(self) -> Iterable[Selector]:
        return (selector for _, argument in self.arguments for selector in argument.selectors)

    def execute(self, pool: VariablePool) -> WorkerCall:
        call = self.tool.call({name: argument.evaluate(pool) for name, argument in self.arguments})
        return WorkerCall(self.tool.work_class, call.inputs, call.arguments)


def _info(configuration: Configuration) -> dict[str, Any]:
    entries = configuration.entries
    return {
        "provider_type": entries.get("provider_type") or "builtin",
        "provider_id": entries["provider_id"],
        "plugin_unique_identifier": entries.get("plugin_unique_identifier"),
    }


def _read_arguments(tool: AnyTool, configuration: Configuration) -> tuple[dict[str, Argument], Review]:
    """Both forms of Dify: plain values and {type, value}. Constants are checked here, once for all runs."""
    is_typed = _is_typed(configuration)
    written = written_arguments(configuration)
    arguments = {name: _argument(name, form, value, tool, configuration) for name, (form, value) in written.items()}
    constants = {name: argument.value for name, argument in arguments.items() if isinstance(argument, Constant)}
    review = tool.review(constants, arguments, is_typed)
    for problem in review.problems:
        configuration.problem(problem)
    for note in review.notes:
        configuration.warn(note)
    for name in sorted(tool.required - written.keys()):
        configuration.problem(f"'{name}' of {tool.name} is required")
    return arguments, review


def _is_typed(configuration: Configuration) -> bool:
    """True for the newer form of a node, in which every setting is {type, value}."""
    entries = configuration.entries
    return bool(entries.get("tool_node_version")) or str(entries.get("version") or "1") != "1"


def written_arguments(configuration: Configuration) -> dict[str, tuple[str, Any]]:
    """name → (form, value) of every argument that says something; a parameter wins over a setting of the same name."""
    settings = _entries(configuration.mapping("tool_configurations"), constant="constant")
    if not _is_typed(configuration):
        settings = {name: (form, value) for name, (form, value) in settings.items() if value != ""}
    parameters = _entries(configuration.mapping("tool_parameters"), constant="mixed")
    return {**settings, **parameters}


def _entries(entries: Mapping[str, Any], constant: str) -> dict[str, tuple[str, Any]]:
    """`constant` is how a constant, plain or typed, is read: Dify fills its references among the parameters only."""
    typed = {name: entry if isinstance(entry, dict) else {"value": entry} for name, entry in entries.items()}
    forms = {name: entry.get("type", "constant") for name, entry in typed.items()}
    return {
        name: (constant if forms[name] == "constant" else str(forms[name]), entry.get("value"))
        for name, entry in typed.items()
        if entry.get("value") is not None and not (forms[name] == "variable" and entry["value"] in _EMPTY)
    }


def _argument(name: str, form: str, value: Value, tool: AnyTool, configuration: Configuration) -> Argument:
    if form == "variable":
        selector = configuration.selector(value, f"'{name}'")
        return Variable(_of_file(selector) if name in tool.pictures else selector, name in tool.required)
    if form == "mixed" and isinstance(value, str):
        text = TextTemplate.of(value)
        if not any(text.selectors):
            return Constant(value)
        if name in tool.pictures and len(text.parts) == 1:
            return Variable(_of_file(*text.selectors), name in tool.required)
        return Json(text) if isinstance(tool, GraphTool) and name in tool.required else Mixed(text)
    if form not in ("mixed", "constant"):
        configuration.problem(f"'{name}' has the form '{form}'; known forms: mixed, variable, constant")
    return Constant(value)


def _of_file(selector: Selector) -> Selector:
    """Other services are given a picture by its URL; here the file itself is taken."""
    return selector[:-1] if len(selector) > 2 and selector[-1] == "url" else selector
