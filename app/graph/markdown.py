"""Values as Markdown: what a chunk of text and an answer are made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from app.domain.artifact import is_artifact
from app.graph.selectors import text_of
from app.graph.values import Value, is_file_list, type_of


def markdown(value: Value, url_of: Callable[[Mapping[str, Any]], str]) -> str:
    """A value as text for people: files as images or links, objects as indented JSON, lists as items.

    As Dify writes it: an item of a list is Python's text of it.
    """
    if is_artifact(value):
        link = f"[{value['filename']}]({url_of(value)})"
        return f"!{link}" if type_of(value) == "image" else link
    if is_file_list(value):
        return "\n".join(markdown(file, url_of) for file in value)
    if isinstance(value, list):
        return "\n".join(f"- {markdown(item, url_of) if is_artifact(item) else item}" for item in value)
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, indent=2)
    return text_of(value)
