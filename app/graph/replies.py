"""What a language model has said: the thinking apart from the text, and the JSON in it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import json_repair

_THOUGHT = re.compile(r"<think[^>]*>(.*?)</think>", re.IGNORECASE | re.DOTALL)
_OPEN = re.compile(r"<think[^>]*(?:>.*)?\Z", re.IGNORECASE | re.DOTALL)
_BLANK_LINES = re.compile(r"\n\s*\n")
_FENCE = re.compile(r"```[a-zA-Z0-9]*\s*\n?(.*?)```", re.DOTALL)
_TAG = "<think"


def without_thoughts(text: str) -> tuple[str, str]:
    """(the text without its <think> blocks, what they say), as Dify takes them apart."""
    thoughts = "\n".join(thought.strip() for thought in _THOUGHT.findall(text))
    return _tidied(_THOUGHT.sub("", text)), thoughts


def certain_text(text: str) -> str:
    """The same of a text that is still growing: the beginning of whatever `without_thoughts` makes of the whole."""
    return _tidied(_without_half_a_tag(_OPEN.sub("", _THOUGHT.sub("", text))))


def _tidied(text: str) -> str:
    return _BLANK_LINES.sub("\n\n", text).strip()


def _without_half_a_tag(text: str) -> str:
    """The text without an end that may become a tag."""
    for length in range(len(_TAG), 0, -1):
        if text[-length:].lower() == _TAG[:length]:
            return text[:-length]
    return text


def find_json(text: str) -> dict[str, Any] | list[Any] | None:
    """The first JSON object or list in a text, thoughts and fences aside; None where there is none.

    What is nearly JSON (quotes of the wrong kind, a comma or an end that is missing) is mended.
    """
    text = _THOUGHT.sub("", text)
    fenced = _FENCE.search(text)
    for candidate in filter(None, (text.strip(), fenced and fenced[1].strip())):
        value = _parsed(candidate)
        if value is not None:
            return value
    return _embedded(text)


def find_object(text: str) -> Mapping[str, Any] | None:
    """The same for an object; a list of exactly one object is that object."""
    value = find_json(text)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, dict) else None


def _parsed(text: str) -> dict[str, Any] | list[Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def _embedded(text: str) -> dict[str, Any] | list[Any] | None:
    start = next((index for index, character in enumerate(text) if character in "{["), None)
    if start is None:
        return None
    try:
        value, _ = json.JSONDecoder().raw_decode(text, start)
        return value if isinstance(value, dict | list) else None
    except (ValueError, RecursionError):
        pass
    try:
        mended = json_repair.loads(text[start:])
    except (ValueError, RecursionError):
        return None
    if isinstance(mended, list) and text[start] == "{":
        mended = next((each for each in mended if isinstance(each, dict)), None)  # several pieces: the first object
    return mended if isinstance(mended, dict | list) and mended else None
