"""What a caller gives, checked against the start node, in Dify's words: SDK users match on them."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

from app.domain.artifact import unforged
from app.errors import InvalidParam
from app.graph.files import FileRules, GivenFile, read_file
from app.graph.graph import Graph
from app.graph.nodes.start import FILE_TYPES, StartVariable
from app.graph.values import Value, is_finite

_TRUE, _FALSE = frozenset({"true", "1", "yes", "on"}), frozenset({"false", "0", "no", "off"})


def input_form(graph: Graph) -> list[dict[str, Mapping[str, Any]]]:
    """The start variables as `/parameters` tells them: each as the document has it, under its type."""
    return [{variable.type: variable.declaration} for variable in graph.start.variables]


def read_inputs(graph: Graph, inputs: Mapping[str, Any], placed: Container[str] = ()) -> dict[str, Any]:
    """Every declared variable with its value, cast, or null; what is not declared is dropped.

    A file is a GivenFile: what the caller named, still to be found (`app.graph.files`). `placed`: the names of those
    that are files already.

    Raises InvalidParam for the first variable, in the document's order, that can't be accepted.
    """
    return {
        each.name: inputs[each.name] if each.name in placed else _read(each, inputs.get(each.name))
        for each in graph.start.variables
    }


def takes_files(graph: Graph) -> bool:
    """Whether any of the start variables is a file, or files."""
    return graph.start.takes_files


def file_rules(graph: Graph) -> dict[str, FileRules]:
    """What each of the file variables takes."""
    return {each.name: FileRules.of(each.declaration) for each in graph.start.variables if each.type in FILE_TYPES}


def _read(variable: StartVariable, value: Value) -> Value:
    if value is None:
        if variable.required:
            raise _refuse(variable, "{} is required in input form")
        value = _default(variable)
    if value is None or (value == "" and variable.type in FILE_TYPES and not variable.required):
        return None
    value = _READERS[variable.type](variable, value)
    if isinstance(value, str):
        return value.replace("\x00", "")
    return value if variable.type in FILE_TYPES else unforged(value)


def _default(variable: StartVariable) -> Value:
    """A select's empty default is what the editor writes for none, not an option."""
    return None if variable.type == "select" and variable.default == "" else variable.default


def _refuse(variable: StartVariable, text: str) -> InvalidParam:
    return InvalidParam(text.format(variable.name), params=variable.name)


def _read_text(variable: StartVariable, value: Value) -> str:
    if not isinstance(value, str):
        raise _refuse(variable, f"(type '{variable.type}') {{}} in input form must be a string")
    if variable.max_length and len(value) > variable.max_length:
        raise _refuse(variable, f"{{}} in input form must be less than {variable.max_length} characters")
    return value


def _read_select(variable: StartVariable, value: Value) -> str:
    if not isinstance(value, str):
        raise _refuse(variable, f"(type '{variable.type}') {{}} in input form must be a string")
    if value not in variable.options:
        options = str(list(variable.options)).replace("{", "{{").replace("}", "}}")
        raise _refuse(variable, f"{{}} in input form must be one of the following: {options}")
    return value


def _read_number(variable: StartVariable, value: Value) -> float | None:
    if isinstance(value, str):
        return _parse_number(variable, value.strip())
    if not isinstance(value, (int, float)) or not is_finite(value):
        raise _refuse(variable, "{} in input form must be a valid number")
    return value


def _parse_number(variable: StartVariable, text: str) -> float | None:
    if not text:
        return None
    try:
        number = float(text) if "." in text else int(text)
    except ValueError:
        raise _refuse(variable, "{} in input form must be a valid number") from None
    return _read_number(variable, number)


def _read_checkbox(variable: StartVariable, value: Value) -> Value:
    """The usual words and 1 or 0 become booleans; any other plain value passes, as in Dify."""
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value)):
        raise _refuse(variable, "Invalid input type for ['{}']")
    word = value.strip().lower() if isinstance(value, str) else value
    if isinstance(word, str):
        return True if word in _TRUE else False if word in _FALSE else value
    return bool(word) if word in (0, 1) else value


def _read_json_object(variable: StartVariable, value: Value) -> Value:
    if value and not isinstance(value, dict):
        raise _refuse(variable, "{} in input form must be a dict")
    return value


def _read_file(variable: StartVariable, value: Value) -> GivenFile:
    if not isinstance(value, dict):
        raise _refuse(variable, "{} in input form must be a file")
    return read_file(variable.name, value)


def _read_file_list(variable: StartVariable, value: Value) -> list[GivenFile]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise _refuse(variable, "{} in input form must be a list of files")
    if variable.max_length and len(value) > variable.max_length:
        raise _refuse(variable, f"{{}} in input form must be less than {variable.max_length} files")
    return [read_file(variable.name, each) for each in value]


_READERS: Mapping[str, Callable[[StartVariable, Any], Any]] = {
    "text-input": _read_text,
    "paragraph": _read_text,
    "select": _read_select,
    "number": _read_number,
    "checkbox": _read_checkbox,
    "json_object": _read_json_object,
    "file": _read_file,
    "file-list": _read_file_list,
}
