"""start: what a caller may give, declared as Dify's input form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import msgspec

from app.errors import NodeFailed
from app.graph.nodes.json_schema import Fault, SchemaInvalid, read_schema
from app.graph.nodes.kind import Completed, Configuration, NodeKind
from app.graph.values import Value
from app.graph.variables import VariablePool

VARIABLE_TYPES = (
    "text-input",
    "paragraph",
    "select",
    "number",
    "checkbox",
    "file",
    "file-list",
    "json_object",
)
FILE_TYPES = frozenset({"file", "file-list"})


class StartVariable(msgspec.Struct, frozen=True):
    """One field of the input form. `declaration` is the mapping as the document has it, for `/parameters`."""

    name: str
    type: str
    required: bool
    default: Value
    max_length: int | None
    options: tuple[str, ...]
    declaration: Mapping[str, Any]
    fault: Fault | None = None


class Start(NodeKind, frozen=True):
    """Its outputs are its inputs: the start variables, which lie in the pool under its own id."""

    kind: ClassVar[str] = "start"
    node_id: str
    variables: tuple[StartVariable, ...]
    takes_files: bool

    @classmethod
    def read(cls, configuration: Configuration) -> Self:
        variables = tuple(_read_variable(entry, configuration) for entry in configuration.mappings("variables"))
        names = [variable.name for variable in variables]
        for name in sorted({name for name in names if names.count(name) > 1}):
            configuration.problem(f"variable '{name}' is declared more than once")
        return cls(configuration.node_id, variables, any(variable.type in FILE_TYPES for variable in variables))

    def execute(self, pool: VariablePool) -> Completed:
        """Raises NodeFailed for an object that does not match its schema: in Dify that is the run's failure."""
        inputs = pool.values.get(self.node_id, {})
        for variable in self.variables:
            if variable.fault is not None and (value := inputs.get(variable.name)):
                fault = variable.fault(value)
                if fault is not None:
                    said = f"JSON object for '{variable.name}' does not match schema: {fault}"
                    raise NodeFailed(said, error_type="WorkflowNodeError")
        return Completed(inputs=inputs, outputs=inputs)


def _read_variable(entry: Mapping[str, Any], configuration: Configuration) -> StartVariable:
    name, kind = entry.get("variable"), entry.get("type")
    if not isinstance(name, str) or not name:
        configuration.problem(f"a variable has no name: {entry.get('label')!r}")
    if kind not in VARIABLE_TYPES:
        supported = ", ".join(VARIABLE_TYPES)
        configuration.problem(f"variable '{name}': type {kind!r} is not supported; supported types: {supported}")
    return StartVariable(
        name=str(name),
        type=str(kind),
        required=bool(entry.get("required")),
        default=entry.get("default"),
        max_length=_read_max_length(name, entry.get("max_length"), configuration),
        options=_read_options(name, entry.get("options") or [], configuration),
        declaration=entry,
        fault=_read_schema(entry, configuration) if kind == "json_object" else None,
    )


def _read_schema(entry: Mapping[str, Any], configuration: Configuration) -> Fault | None:
    try:
        return read_schema(entry.get("json_schema"))
    except SchemaInvalid as error:
        configuration.problem(f"variable '{entry.get('variable')}': {error}")
        return None


def _read_options(name: object, value: object, configuration: Configuration) -> tuple[str, ...]:
    if not isinstance(value, list):
        configuration.problem(f"variable '{name}': options must be a list, got {value!r}")
        return ()
    return tuple(str(option) for option in value)


def _read_max_length(name: object, value: object, configuration: Configuration) -> int | None:
    """Zero, null and an empty text mean no limit."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if value in (None, "", 0):
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        configuration.problem(f"variable '{name}': max_length must be a whole number, got {value!r}")
        return None
    return value
