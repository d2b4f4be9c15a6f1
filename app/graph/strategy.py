"""What becomes of a node that fails: tried again, or taken care of by the document's own strategy."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Self

import msgspec

from app.graph.nodes.kind import SOURCE, Configuration
from app.graph.values import Value

FAIL_BRANCH, DEFAULT_VALUE = "fail-branch", "default-value"
SUCCESS_BRANCH = "success-branch"
"""How documents up to 1.8 call the normal way out of a node with a fail branch."""


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often a failed node is tried again, and how long after each failure."""

    max_retries: int
    interval_s: float

    @classmethod
    def read(cls, configuration: Configuration) -> Self | None:
        """The node's `retry_config`; None where it is off. Numbers may be written as text."""
        written = configuration.mapping("retry_config")
        if not _as_bool(written.get("retry_enabled")):
            return None
        retries = _as_number(written.get("max_retries"), "max_retries", configuration)
        interval_ms = _as_number(written.get("retry_interval"), "retry_interval", configuration)
        return cls(int(retries), interval_ms / 1000) if retries >= 1 else None


class ErrorStrategy(msgspec.Struct, frozen=True):
    """A failed node is an `exception` from which its run goes on: by the fail branch, or with `defaults`."""

    name: str
    defaults: Mapping[str, Value] = {}

    @classmethod
    def read(cls, configuration: Configuration) -> Self | None:
        name = configuration.entries.get("error_strategy")
        if name in (None, "", "none"):
            return None
        if name == FAIL_BRANCH:
            return cls(FAIL_BRANCH)
        if name != DEFAULT_VALUE:
            known = f"known strategies: {FAIL_BRANCH}, {DEFAULT_VALUE}"
            configuration.problem(f"error_strategy {name!r} is not known; {known}")
            return None
        return cls(
            DEFAULT_VALUE,
            dict(_read_default(entry, configuration) for entry in configuration.mappings("default_value")),
        )

    @property
    def branches(self) -> bool:
        return self.name == FAIL_BRANCH

    @property
    def handle(self) -> str:
        """How the failed node is left."""
        return FAIL_BRANCH if self.branches else SOURCE

    def outputs(self, error: str, error_type: str | None) -> dict[str, Value]:
        """What the failed node gives, besides what it has made all the same."""
        return {**self.defaults, "error_message": error, "error_type": error_type or ""}


def _read_default(entry: Mapping[str, Any], configuration: Configuration) -> tuple[str, Value]:
    """A null is the type's empty value."""
    key, kind, value = str(entry.get("key")), str(entry.get("type") or "string"), entry.get("value")
    if value is None and kind in _READERS:
        return key, {"string": "", "number": 0, "object": {}}.get(kind, [])
    reader = _READERS.get(kind)
    if reader is None:
        configuration.problem(f"default value '{key}': unsupported type: {kind}; known types: {', '.join(_READERS)}")
        return key, value
    try:
        return key, reader(value)
    except ValueError as error:
        configuration.problem(f"default value '{key}': {error}")
        return key, value


def _string(value: Value) -> str:
    if not isinstance(value, str):
        raise ValueError(f"Value must be str type for {value}")
    return value


def _number(value: Value) -> float:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise ValueError(f"Cannot convert to number: {value}") from None
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"Value must be number type for {value}")
    return value


def _parsed(value: Value) -> Value:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError(f"Invalid JSON format for value: {value}") from None


def _object(value: Value) -> dict[str, Any]:
    value = _parsed(value)
    if not isinstance(value, dict):
        raise ValueError(f"Value must be dict type for {value}")
    return value


def _array_of(name: str, *kinds: type) -> Callable[[Value], list[Any]]:
    def read(value: Value) -> list[Any]:
        value = _parsed(value)
        if not isinstance(value, list):
            raise ValueError(f"Value must be list type for {value}")
        if kinds and not all(isinstance(item, kinds) for item in value):
            raise ValueError(f"All elements must be {name} for {value}")
        return value

    return read


_READERS: Mapping[str, Callable[[Value], Value]] = {
    "string": _string,
    "number": _number,
    "object": _object,
    "array[string]": _array_of("str", str),
    "array[number]": _array_of("numbers", int, float),
    "array[object]": _array_of("dict", dict),
    "array[file]": _array_of("files"),
}


def _as_bool(value: object) -> bool:
    return value.strip().lower() == "true" if isinstance(value, str) else bool(value)


def _as_number(value: object, name: str, configuration: Configuration) -> float:
    """Null and an empty text mean none."""
    try:
        number = float(str(value).strip() or 0) if value is not None else 0.0
    except ValueError:
        number = -1.0
    if not 0 <= number < math.inf:
        configuration.problem(f"retry_config: {name} must be a number, got {value!r}")
        return 0.0
    return number
