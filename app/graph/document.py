"""Dify's DSL (YAML) → Document: the outer form only. What the nodes say is the graph's to judge."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import yaml

from app.errors import DocumentInvalid
from app.graph.values import Value

try:
    from yaml import CSafeLoader as _SafeLoader
except ImportError:  # PyYAML was built without libyaml: the same result, ten times slower
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]

MODE = "workflow"
KNOWN_VERSION = (0, 6)
"""The newest version of the DSL that is known; later ones are read as if they were it."""

_CONVERT = "it has no graph: in Dify, switch it to workflow orchestration and export that"
_OTHER_MODES = {
    "advanced-chat": "a chatflow answers in a conversation: in Dify, make a workflow of its nodes, with end nodes in "
    "place of answer nodes and start variables in place of sys.query, and export that",
    "chat": _CONVERT,
    "agent-chat": _CONVERT,
    "completion": _CONVERT,
    "agent": "it has no graph: build a workflow of llm, tool and http-request nodes",
    "channel": "it has no graph: build a workflow and export that",
    "rag-pipeline": "it fills a knowledge base, and there is none here: run it in Dify",
}
_MAX_TEXT = 10 * 1024 * 1024
_MAX_VALUES = 1_000_000
_VERSION = re.compile(r"(\d{1,6})\.(\d{1,6})(?:\.\d{1,6})?(?:[-+.]?[0-9A-Za-z.+-]*)?")


class _Loader(_SafeLoader):
    """YAML as JSON knows it: what looks like a date stays the text that was written."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _SafeLoader.yaml_implicit_resolvers.items()
}


class EnvironmentVariable(msgspec.Struct, frozen=True):
    """What a document reads as `env.<name>`. A secret's value is empty in an export."""

    name: str
    value: Value
    value_type: str = "string"

    @property
    def is_unset_secret(self) -> bool:
        return self.value_type == "secret" and self.value in (None, "")


class Document(msgspec.Struct, frozen=True):
    """A workflow document as parsed. `nodes` and `edges` are still mappings as the file has them.

    `app` is the file's own section of that name, `environment` the value of each of the `variables` by its name.
    `warnings` don't keep it from being published.
    """

    version: str
    name: str
    description: str
    mode: str
    tags: tuple[str, ...]
    app: Mapping[str, Any]
    features: Mapping[str, Any]
    variables: tuple[EnvironmentVariable, ...]
    environment: Mapping[str, Value]
    nodes: tuple[Mapping[str, Any], ...]
    edges: tuple[Mapping[str, Any], ...]
    warnings: tuple[str, ...] = ()


def parse_document(text: str) -> Document:
    """Read DSL 0.1.0 to 0.6.x; raises DocumentInvalid with every problem of the outer form, in Dify's words."""
    content = _load(text)
    problems: list[str] = []
    warnings: list[str] = []
    version = _read_version(content.get("version") or "0.1.0", problems, warnings)
    app = _app(content, problems)
    workflow = _workflow(content, problems)
    graph = _graph(workflow, problems) if workflow else {}
    variables = tuple(map(_variable, _mappings(workflow.get("environment_variables"))))
    if problems:
        raise DocumentInvalid(problems)
    return Document(
        version=version,
        name=str(app.get("name") or ""),
        description=str(app.get("description") or ""),
        mode=MODE,
        tags=_texts(app.get("tags")),
        app=app,
        features=_mapping(workflow.get("features")),
        variables=variables,
        environment=_by_name(variables),
        nodes=_mappings(graph.get("nodes")),
        edges=_mappings(graph.get("edges")),
        warnings=tuple(warnings),
    )


def with_environment(document: Document, overrides: Mapping[str, str]) -> Document:
    """The document with other values of its environment variables, by name, each written as a text.

    Raises DocumentInvalid for a name that it does not declare, and for a number that is none.
    """
    if not overrides:
        return document
    declared = {variable.name: variable for variable in document.variables}
    problems: list[str] = []
    for name, text in overrides.items():
        known = declared.get(name)
        if known is None:
            names = ", ".join(sorted(declared)) or "none"
            problems.append(f"the document declares no environment variable '{name}'; it declares: {names}")
            continue
        declared[name] = _variable({"name": name, "value": text, "value_type": known.value_type})
        if known.value_type == "number" and isinstance(declared[name].value, str):
            problems.append(f"environment variable '{name}' is a number, got '{text}'")
    if problems:
        raise DocumentInvalid(problems)
    variables = tuple(declared.values())
    return msgspec.structs.replace(document, variables=variables, environment=_by_name(variables))


def _load(text: str) -> dict[str, Any]:
    if len(text) > _MAX_TEXT:
        raise DocumentInvalid(["File size exceeds the limit of 10MB"])
    try:
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader with fewer types
        _count_values(content, {})
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DocumentInvalid([f"Invalid YAML format: {error}"]) from None
    if not isinstance(content, dict):
        raise DocumentInvalid(["Invalid YAML format: content must be a mapping"])
    return content


def _count_values(value: object, known: dict[int, int]) -> int:
    """How many values it holds when each alias is written out. Raises ValueError for too many, and for endless ones.

    `known` are the collections that were counted; 0 while one is being counted. Keys become texts, as in JSON.
    """
    if not isinstance(value, (dict, list)):
        if value is None or isinstance(value, (str, int, float)):
            return 1
        raise ValueError(f"a value of type {type(value).__name__} is not supported")
    if (counted := known.get(id(value))) is not None:
        if not counted:
            raise ValueError("an alias leads into itself")
        return counted
    known[id(value)] = 0
    if isinstance(value, dict):
        for key in [key for key in value if not isinstance(key, str)]:
            value[_key_text(key)] = value.pop(key)
    counted = 1 + sum(_count_values(part, known) for part in (value.values() if isinstance(value, dict) else value))
    if counted > _MAX_VALUES:
        raise ValueError(f"it holds more than {_MAX_VALUES} values")
    known[id(value)] = counted
    return counted


def _key_text(key: object) -> str:
    """A key that YAML does not read as a text, as JSON would write it."""
    if key is None:
        return "null"
    return str(key).lower() if isinstance(key, bool) else str(key)


def _read_version(version: object, problems: list[str], warnings: list[str]) -> str:
    if not isinstance(version, str):
        problems.append(f"Invalid version type, expected str, got {type(version)}")
        return ""
    found = _VERSION.fullmatch(version.strip())
    if found is None:
        problems.append(f"Invalid version '{version}': write it as '0.6.0'")
    elif (int(found[1]), int(found[2])) > KNOWN_VERSION:
        newest = ".".join(map(str, KNOWN_VERSION))
        warnings.append(f"the document is of version {version}; what is newer than {newest} is not known here")
    return version


def _app(content: Mapping[str, Any], problems: list[str]) -> Mapping[str, Any]:
    app = _mapping(content.get("app"))
    mode = str(app.get("mode") or "")
    if not app:
        problems.append("Missing app data in YAML content")
    elif not mode:
        problems.append("loss app mode")
    elif mode in _OTHER_MODES:
        problems.append(f"app mode '{mode}' is not supported: {_OTHER_MODES[mode]}; supported mode: {MODE}")
    elif mode != MODE:
        problems.append("Invalid app mode")
    return app


def _workflow(content: Mapping[str, Any], problems: list[str]) -> Mapping[str, Any]:
    workflow = _mapping(content.get("workflow"))
    if not workflow:
        problems.append("Missing workflow data for workflow/advanced chat app")
    return workflow


def _graph(workflow: Mapping[str, Any], problems: list[str]) -> Mapping[str, Any]:
    graph = _mapping(workflow.get("graph"))
    if not graph:
        problems.append("Missing graph data in the workflow")
    for part in ("nodes", "edges"):
        entries = graph.get(part) or []
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            problems.append(f"graph.{part} must be a list of mappings")
    return graph


def _variable(entry: Mapping[str, Any]) -> EnvironmentVariable:
    kind = str(entry.get("value_type") or "string")
    return EnvironmentVariable(str(entry.get("name")), _environment_value(kind, entry.get("value")), kind)


def _by_name(variables: Iterable[EnvironmentVariable]) -> dict[str, Value]:
    return {variable.name: variable.value for variable in variables}


def _environment_value(kind: str, value: Value) -> Value:
    """A number may be written as text."""
    if kind != "number" or not isinstance(value, str):
        return value
    try:
        return float(value) if "." in value or "e" in value.lower() else int(value)
    except ValueError:
        return value


def _texts(value: object) -> tuple[str, ...]:
    return tuple(entry for entry in value if isinstance(entry, str)) if isinstance(value, list) else ()


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _mappings(value: object) -> tuple[Mapping[str, Any], ...]:
    return tuple(entry for entry in value if isinstance(entry, dict)) if isinstance(value, list) else ()
