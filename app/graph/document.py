"""Dify's DSL (YAML) → Document: the outer form only. What the nodes say is the graph's to judge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import yaml

from app.errors import DocumentInvalid
from app.graph.values import Value

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML was built without libyaml: the same result, ten times slower
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

MODE = "workflow"
_OTHER_MODES = frozenset({"advanced-chat", "agent-chat", "agent", "chat", "completion", "channel", "rag-pipeline"})
_MAX_TEXT = 10 * 1024 * 1024


class Document(msgspec.Struct, frozen=True):
    """A workflow document as parsed. `nodes` and `edges` are still mappings as the file has them."""

    version: str
    name: str
    description: str
    mode: str
    tags: tuple[str, ...]
    features: Mapping[str, Any]
    environment: Mapping[str, Any]
    nodes: tuple[Mapping[str, Any], ...]
    edges: tuple[Mapping[str, Any], ...]


def parse_document(text: str) -> Document:
    """Read DSL 0.1.0 to 0.6.x; raises DocumentInvalid with every problem of the outer form, in Dify's words."""
    content = _load(text)
    problems: list[str] = []
    version = content.get("version") or "0.1.0"
    if not isinstance(version, str):
        problems.append(f"Invalid version type, expected str, got {type(version)}")
    app = _app(content, problems)
    workflow = _workflow(content, problems)
    graph = _graph(workflow, problems) if workflow else {}
    if problems:
        raise DocumentInvalid(problems)
    return Document(
        version=version,
        name=str(app.get("name") or ""),
        description=str(app.get("description") or ""),
        mode=MODE,
        tags=_texts(app.get("tags")),
        features=_mapping(workflow.get("features")),
        environment=_environment(workflow.get("environment_variables")),
        nodes=_mappings(graph.get("nodes")),
        edges=_mappings(graph.get("edges")),
    )


def _load(text: str) -> dict[str, Any]:
    if len(text) > _MAX_TEXT:
        raise DocumentInvalid(["File size exceeds the limit of 10MB"])
    try:
        content = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DocumentInvalid([f"Invalid YAML format: {error}"]) from None
    if not isinstance(content, dict):
        raise DocumentInvalid(["Invalid YAML format: content must be a mapping"])
    return content


def _app(content: Mapping[str, Any], problems: list[str]) -> Mapping[str, Any]:
    app = _mapping(content.get("app"))
    mode = str(app.get("mode") or "")
    if not app:
        problems.append("Missing app data in YAML content")
    elif not mode:
        problems.append("loss app mode")
    elif mode in _OTHER_MODES:
        problems.append(f"app mode '{mode}' is not supported; supported mode: {MODE}")
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


def _environment(entries: object) -> dict[str, Any]:
    """name → value; a number may be written as text."""
    return {str(entry.get("name")): _environment_value(entry) for entry in _mappings(entries)}


def _environment_value(entry: Mapping[str, Any]) -> Value:
    value = entry.get("value")
    if entry.get("value_type") != "number" or not isinstance(value, str):
        return value
    try:
        return float(value) if "." in value else int(value)
    except ValueError:
        return value


def _texts(value: object) -> tuple[str, ...]:
    return tuple(entry for entry in value if isinstance(entry, str)) if isinstance(value, list) else ()


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _mappings(value: object) -> tuple[Mapping[str, Any], ...]:
    return tuple(entry for entry in value if isinstance(entry, dict)) if isinstance(value, list) else ()
