"""What a node asks of a language model: the model with its parameters, and the messages, filled from the pool."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jinja2
import msgspec

from app.domain.artifact import is_artifact
from app.errors import NodeFailed
from app.graph.nodes.kind import Configuration
from app.graph.nodes.template_transform import read_template
from app.graph.sandbox import render
from app.graph.selectors import MISSING, Selector, TextTemplate, as_selector, text_of
from app.graph.values import Value, is_file_list, plain
from app.graph.variables import VariablePool

CONTEXT = "{{#context#}}"

_ROLES = {"system": "system", "user": "user", "assistant": "assistant", "human": "user", "ai": "assistant"}
_LONGEST_PARAMETER = 1024  # characters of one that is filled in


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message as a worker sends it. `files` are values of files (`app.domain.artifact`).

    `text` is None until a Jinja template has been rendered, which is a worker's work: its values may be large.
    """

    role: str
    text: str | None
    files: tuple[dict[str, Any], ...] = ()


class Model(msgspec.Struct, frozen=True):
    """The model that a document names. `parameters` may have references in texts."""

    provider: str
    name: str
    mode: str
    parameters: tuple[tuple[str, Value | TextTemplate], ...]

    @classmethod
    def read(cls, configuration: Configuration) -> Model:
        entries = configuration.mapping("model")
        parameters = configuration.mapping("completion_params", within=entries)
        return cls(
            provider=str(entries.get("provider") or ""),
            name=str(entries.get("name") or ""),
            mode=str(entries.get("mode") or "chat"),
            parameters=tuple((name, _parameter(value)) for name, value in parameters.items() if value is not None),
        )

    @property
    def selectors(self) -> Iterator[Selector]:
        return (part for _, value in self.parameters if isinstance(value, TextTemplate) for part in value.selectors)

    def filled(self, pool: VariablePool) -> dict[str, Value]:
        """The parameters with their references filled in; a number that came as text is a number again."""
        return {name: _filled(value, pool) for name, value in self.parameters}


class Vision(msgspec.Struct, frozen=True):
    """Which files the model is shown, if any. `detail` is OpenAI's word for how closely it looks."""

    selector: Selector | None
    detail: str

    @classmethod
    def read(cls, configuration: Configuration) -> Vision:
        entries = configuration.mapping("vision")
        settings = configuration.mapping("configs", within=entries)
        selector = as_selector(settings.get("variable_selector")) or ("sys", "files")
        return cls(selector if entries.get("enabled") else None, str(settings.get("detail") or "high"))

    @property
    def selectors(self) -> Iterable[Selector]:
        return () if self.selector is None else (self.selector,)

    def files(self, pool: VariablePool) -> tuple[dict[str, Any], ...]:
        """The files; nothing where there are none. Raises NodeFailed for a value that is no file."""
        value = None if self.selector is None else pool.get(self.selector, None)
        if not value:
            return ()
        found = files_of(value)
        if not found:
            raise NodeFailed(f"Invalid variable type: {type(value)}", error_type="InvalidVariableTypeError")
        return found


class MessageTemplate(msgspec.Struct, frozen=True):
    """A message with references, or a Jinja template."""

    role: str
    text: TextTemplate | jinja2.Template

    @property
    def selectors(self) -> Iterable[Selector]:
        return self.text.selectors if isinstance(self.text, TextTemplate) else ()

    def filled(self, pool: VariablePool, context: str) -> Message:
        """The message, but for a Jinja template. Raises NodeFailed for a reference that finds nothing, as in Dify."""
        if isinstance(self.text, jinja2.Template):
            return Message(self.role, None)
        files: list[dict[str, Any]] = []
        pieces: list[str] = []
        for part in self.text.parts:
            if isinstance(part, str):
                pieces.append(part.replace(CONTEXT, context))
                continue
            value = found(pool, part)
            files += files_of(value)
            pieces.append(text_of(value))
        return Message(self.role, "".join(pieces), tuple(files))

    def rendered(self, message: Message, values: Mapping[str, Any]) -> Message:
        """What `filled` gave, whole. Raises NodeFailed."""
        if not isinstance(self.text, jinja2.Template):
            return message
        return msgspec.structs.replace(message, text=render(self.text, values))


def read_messages(configuration: Configuration) -> tuple[MessageTemplate, ...]:
    """`prompt_template`: a list of messages, or the one text of a completion model, which is heard as the user's."""
    written = configuration.entries.get("prompt_template")
    if isinstance(written, dict):
        return (_read_message(configuration, {"role": "user", **written}),)
    entries = configuration.mappings("prompt_template")
    return tuple(_read_message(configuration, entry) for entry in entries)


def written(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """The messages as plain JSON, for a step's arguments."""
    found: list[dict[str, Any]] = msgspec.to_builtins(list(messages))
    return found


def read_back(messages: object) -> list[Message]:
    """What `written` gave."""
    return msgspec.convert(messages, list[Message])


def found(pool: VariablePool, selector: Selector) -> Value:
    """The value of a reference in a prompt. Raises NodeFailed where there is none."""
    value = pool.get(selector)
    if value is MISSING:
        raise NodeFailed(f"Variable #{'.'.join(selector)}# not found", error_type="VariableNotFoundError")
    return value


def files_of(value: Value) -> tuple[dict[str, Any], ...]:
    """The files that a value is: itself, its items, or none."""
    if is_artifact(value):
        return (value,)
    return tuple(value) if is_file_list(value) else ()


def context_text(value: Value) -> str:
    """A `context` as one text: a text as it is, of a list each item's (or its `content`) on a line."""
    if not isinstance(value, list):
        return value if isinstance(value, str) else text_of(value)
    return "\n".join(map(_context_item, value)).strip()


def jinja_values(bindings: Iterable[tuple[str, Selector]], pool: VariablePool) -> dict[str, Value]:
    return {name: plain(found(pool, selector)) for name, selector in bindings}


def with_files(messages: list[Message], files: tuple[dict[str, Any], ...]) -> list[Message]:
    """The messages with files shown in the last one when that is the user's, else in one of their own."""
    if not files:
        return messages
    if messages and messages[-1].role == "user":
        last = messages[-1]
        return [*messages[:-1], msgspec.structs.replace(last, files=files + last.files)]
    return [*messages, Message("user", "", files)]


def _context_item(item: Value) -> str:
    if isinstance(item, str):
        return item
    if not isinstance(item, dict) or "content" not in item:
        raise NodeFailed(f"Invalid context structure: {item}", error_type="InvalidContextStructureError")
    return "\n".join(str(item[name]) for name in ("summary", "content") if item.get(name))


def _read_message(configuration: Configuration, entry: Mapping[str, Any]) -> MessageTemplate:
    role = _ROLES.get(str(entry.get("role") or "user"))
    if role is None:
        configuration.problem(f"a message has the role '{entry.get('role')}'; known roles: system, user, assistant")
        role = "user"
    if entry.get("edition_type") == "jinja2":
        return MessageTemplate(role, read_template(configuration, str(entry.get("jinja2_text") or "")))
    return MessageTemplate(role, TextTemplate.of(str(entry.get("text") or "")))


def _parameter(value: Value) -> Value | TextTemplate:
    """Texts with references are filled at each run; all others stay as they are."""
    template = TextTemplate.of(value) if isinstance(value, str) else None
    return template if template is not None and any(template.selectors) else value


def _filled(value: Value | TextTemplate, pool: VariablePool) -> Value:
    if not isinstance(value, TextTemplate):
        return value
    text = value.render(pool.get)[:_LONGEST_PARAMETER]
    try:
        number = json.loads(text)
    except ValueError:
        return text
    return number if isinstance(number, bool | int | float) else text
