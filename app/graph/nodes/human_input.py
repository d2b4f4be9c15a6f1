"""human-input: the run waits for a person, who fills in a form and leaves the node by one of its actions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import msgspec

from app.errors import InvalidFormData
from app.graph.nodes.kind import AskForm, Configuration, NodeKind
from app.graph.selectors import MISSING, Selector, TextTemplate, as_selector, text_of
from app.graph.values import Value
from app.graph.variables import VariablePool

TIMEOUT = "__timeout"
"""The handle by which the node is left when nobody has filled in its form in time."""

_DEFAULT_TIMEOUT_HOURS = 36
_HOURS = {"hour": 1.0, "day": 24.0}
_INPUT_TYPES = ("paragraph", "select")
_FIELD = re.compile(r"\{\{#\$output\.([a-zA-Z_][a-zA-Z0-9_]{0,29})#\}\}")
_MOST_CHARACTERS = 100_000  # of one answer


class Source(msgspec.Struct, frozen=True):
    """Where a default or a list of options comes from: written down, or another node's value."""

    value: Value = None
    selector: Selector | None = None

    def read(self, pool: VariablePool) -> Value:
        if self.selector is None:
            return self.value
        found = pool.get(self.selector)
        return None if found is MISSING else found


class FormField(msgspec.Struct, frozen=True):
    """One field. `declaration` is the mapping as the document has it, which is what callers are shown."""

    name: str
    type: str
    default: Source
    options: Source
    declaration: Mapping[str, Any]


class HumanInput(NodeKind, frozen=True):
    kind: ClassVar[str] = "human-input"
    content: TextTemplate
    fields: tuple[FormField, ...]
    actions: tuple[Mapping[str, Any], ...]
    timeout_s: float

    @classmethod
    def read(cls, configuration: Configuration) -> Self:
        actions = tuple(_read_action(entry, configuration) for entry in configuration.mappings("user_actions"))
        if not actions:
            configuration.problem("a form needs at least one of user_actions, or nobody can leave it")
        fields = tuple(_read_field(entry, configuration) for entry in configuration.mappings("inputs"))
        content = configuration.entries.get("form_content") or ""
        return cls(TextTemplate.of(str(content)), fields, actions, _read_timeout_s(configuration))

    @property
    def selectors(self) -> Iterable[Selector]:
        yield from self.content.selectors
        for field in self.fields:
            yield from (source.selector for source in (field.default, field.options) if source.selector)

    @property
    def handles(self) -> frozenset[str]:
        return frozenset(str(action["id"]) for action in self.actions) | {TIMEOUT}

    def execute(self, pool: VariablePool) -> AskForm:
        """The form, with everything in it that other nodes have made."""
        defaults = {field.name: field.default.read(pool) for field in self.fields}
        form = {
            "form_content": self.content.render(pool.get),
            "inputs": [_shown(field, pool) for field in self.fields],
            "actions": list(self.actions),
            "resolved_default_values": {name: text_of(value) for name, value in defaults.items() if value is not None},
        }
        return AskForm(inputs={}, form=form, timeout_s=self.timeout_s)


def fill(form: Mapping[str, Any], given: Mapping[str, Any], action_id: str) -> dict[str, Any]:
    """The node's outputs for a form (as `execute` gives it) that somebody has filled in.

    Raises InvalidFormData in Dify's words for a field that is missing or wrong and for an unknown action.
    """
    action = next((action for action in form["actions"] if action["id"] == action_id), None)
    if action is None:
        known = ", ".join(str(action["id"]) for action in form["actions"])
        raise InvalidFormData(f"Invalid action: {action_id[:50]}; actions of this form: {known}", params="action")
    names = [field["output_variable_name"] for field in form["inputs"]]
    missing = [name for name in names if given.get(name) is None]
    if missing:
        raise InvalidFormData(f"Missing required inputs: {', '.join(missing)}", params="inputs")
    values = {field["output_variable_name"]: _checked(field, given) for field in form["inputs"]}
    content = _FIELD.sub(lambda found: text_of(values.get(found[1], found[0])), form["form_content"])
    return {**values, "__action_id": action_id, "__action_value": action["title"], "__rendered_content": content}


def _checked(field: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    name = field["output_variable_name"]
    value = given[name]
    if not isinstance(value, str):
        raise InvalidFormData(f"Invalid value for {field['type']} input '{name}': must be a string", params="inputs")
    if len(value) > _MOST_CHARACTERS:
        raise InvalidFormData(
            f"Invalid value for {field['type']} input '{name}': longer than {_MOST_CHARACTERS} characters",
            params="inputs",
        )
    options = field.get("options")
    if options is not None and value not in options:
        raise InvalidFormData(
            f"Invalid value for select input '{name}': must be one of {', '.join(map(str, options))}", params="inputs"
        )
    return value.replace("\x00", "")


def _shown(field: FormField, pool: VariablePool) -> dict[str, Any]:
    """The field as the document has it; a select's options as they are now."""
    if field.type != "select":
        return dict(field.declaration)
    options = field.options.read(pool)
    return {**field.declaration, "options": [text_of(each) for each in options] if isinstance(options, list) else []}


def _read_action(entry: Mapping[str, Any], configuration: Configuration) -> Mapping[str, Any]:
    action_id = entry.get("id")
    if not isinstance(action_id, str) or not action_id or action_id == TIMEOUT:
        configuration.problem(f"an action needs an id other than '{TIMEOUT}', got {action_id!r}")
    return {
        "id": str(action_id),
        "title": str(entry.get("title") or action_id),
        "button_style": str(entry.get("button_style") or "default"),
    }


def _read_field(entry: Mapping[str, Any], configuration: Configuration) -> FormField:
    name, kind = entry.get("output_variable_name"), entry.get("type")
    if not isinstance(name, str) or not name:
        configuration.problem(f"an input of the form has no output_variable_name: {json.dumps(entry)[:100]}")
    if kind == "text-input":
        kind = "paragraph"
    if kind not in _INPUT_TYPES:
        supported = ", ".join(_INPUT_TYPES)
        configuration.problem(f"input '{name}' of the form: type {kind!r} is not supported; supported: {supported}")
    return FormField(
        name=str(name),
        type=str(kind),
        default=_read_source(configuration.mapping("default", entry), f"the default of '{name}'", configuration),
        options=_read_source(configuration.mapping("option_source", entry), f"options of '{name}'", configuration),
        declaration=entry,
    )


def _read_source(entry: Mapping[str, Any], use: str, configuration: Configuration) -> Source:
    if entry.get("type") != "variable":
        return Source(entry.get("value"))
    selector = as_selector(entry.get("selector"))
    return Source(selector=selector or configuration.selector(entry.get("selector"), use))


def _read_timeout_s(configuration: Configuration) -> float:
    written, unit = configuration.entries.get("timeout"), configuration.entries.get("timeout_unit") or "hour"
    if unit not in _HOURS:
        configuration.problem(f"timeout_unit must be hour or day, got {unit!r}")
        unit = "hour"
    try:
        count = float(written) if written else float(_DEFAULT_TIMEOUT_HOURS)
    except (TypeError, ValueError):
        configuration.problem(f"timeout must be a number, got {written!r}")
        count = float(_DEFAULT_TIMEOUT_HOURS)
    if count <= 0:
        configuration.problem(f"timeout must be above 0, got {written!r}")
    return count * _HOURS[str(unit)] * 3600
