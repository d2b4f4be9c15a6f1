"""Modelfiles, as clients of 2024 send them: FROM, PARAMETER, TEMPLATE, SYSTEM, LICENSE, ADAPTER, MESSAGE."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from app.errors import InvalidParam

_INSTRUCTION = re.compile(r"[ \t]*([A-Za-z]+)[ \t]+")
_BLANK = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\n)+")
_VALUE = re.compile(
    r'[ \t]*(?:"""(?P<block>.*?)"""(?!")|"(?P<quoted>[^"\n]*)"(?=[ \t]*(?:\n|\Z))|(?P<line>[^\n]*))', re.DOTALL
)
_BLOCK = re.compile(r'[ \t]*"""')
_NAME = re.compile(r"\S*")
_KNOWN = frozenset({"from", "parameter", "template", "system", "license", "adapter", "message", "requires"})


class Modelfile(msgspec.Struct):
    """What one says. A parameter that is there several times has a list of its values."""

    origin: str = ""
    parameters: dict[str, Any] = {}
    template: str | None = None
    system: str | None = None
    license: list[str] = []
    adapters: list[str] = []


def read_modelfile(text: str) -> Modelfile:
    """Raises InvalidParam with the line."""
    found, at = Modelfile(), 0
    text = text.replace("\r\n", "\n")
    while at < len(text):
        blank = _BLANK.match(text, at)
        if blank:
            at = blank.end()
            continue
        said = _INSTRUCTION.match(text, at)
        if said is None or said[1].lower() not in _KNOWN:
            if not text[at:].strip() or text[at:].lstrip().startswith("#"):
                break
            raise _wrong(text, at, "command must be one of " + ", ".join(f'"{word}"' for word in sorted(_KNOWN)))
        word, at = said[1].lower(), said.end()
        name = ""
        if word in ("parameter", "message"):
            name, at = _word(text, at)
        value, at = _value(text, at)
        _take(found, word, name, value)
    found.parameters = {name: values if values[1:] else values[0] for name, values in found.parameters.items()}
    return found


def _word(text: str, at: int) -> tuple[str, int]:
    end = _NAME.match(text, at)
    assert end is not None
    return end[0], end.end()


def _value(text: str, at: int) -> tuple[str, int]:
    begun = _BLOCK.match(text, at)
    if begun and text.find('"""', begun.end()) < 0:
        raise _wrong(text, at, "unterminated string")
    found = _VALUE.match(text, at)
    assert found is not None
    block, quoted, line = found["block"], found["quoted"], found["line"]
    value = block if block is not None else quoted if quoted is not None else line.strip()
    end = text.find("\n", found.end())
    return value, len(text) if end < 0 else end + 1


def _take(found: Modelfile, word: str, name: str, value: str) -> None:
    match word:
        case "from":
            found.origin = value
        case "parameter":
            found.parameters.setdefault(name.lower(), []).append(value)
        case "template":
            found.template = value
        case "system":
            found.system = value
        case "license":
            found.license.append(value)
        case "adapter":
            found.adapters.append(value)


def _wrong(text: str, at: int, why: str) -> InvalidParam:
    line = text.count("\n", 0, at) + 1
    return InvalidParam(f"modelfile: line {line}: {why}", params="modelfile")
