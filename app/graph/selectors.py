"""Selectors, and texts that hold them: `{{#node.name.attribute#}}`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, Final

import msgspec

from app.domain.artifact import is_artifact
from app.graph.values import Value, is_file_list

Selector = tuple[str, ...]
"""(node id or namespace, variable, attribute…): two parts or more."""


class Missing(Enum):
    """The one value that no document and no JSON can hold."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING
"""What a selector finds where nothing is; null is something."""

_REFERENCE = re.compile(r"\{\{#([a-zA-Z0-9_]{1,50}(?:\.[a-zA-Z_][a-zA-Z0-9_]{0,29}){1,10})#\}\}")


def as_selector(value: object) -> Selector | None:
    """The selector that a document writes as a list, or None where it is not one."""
    if isinstance(value, list) and len(value) >= 2 and all(isinstance(part, str) and part for part in value):
        return tuple(value)
    return None


class TextTemplate(msgspec.Struct, frozen=True):
    """A text cut once at its references: `parts` are literals and selectors in turn."""

    parts: tuple[str | Selector, ...]

    @classmethod
    def of(cls, text: str) -> TextTemplate:
        pieces = _REFERENCE.split(text)
        parts = (tuple(piece.split(".")) if index % 2 else piece for index, piece in enumerate(pieces))
        return cls(tuple(part for part in parts if part))

    @property
    def selectors(self) -> Iterator[Selector]:
        return (part for part in self.parts if isinstance(part, tuple))

    def render(self, find: Callable[[Selector], Any]) -> str:
        """The text with each reference as `text_of` its value; one that finds nothing stays as `node.name`."""
        return "".join(part if isinstance(part, str) else _rendered(part, find(part)) for part in self.parts)


def _rendered(selector: Selector, value: Value) -> str:
    return ".".join(selector) if value is MISSING else text_of(value)


def text_of(value: Value) -> str:
    """A value inside a text, as Dify writes it: objects and lists of strings as JSON, files as nothing."""
    if isinstance(value, str):
        return value
    if value is None or is_artifact(value) or is_file_list(value):
        return ""
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return _list_text(value)
    return str(value)


def _list_text(items: list[Any]) -> str:
    if not items:
        return ""
    return json.dumps(items, ensure_ascii=False) if all(isinstance(item, str) for item in items) else str(items)
