"""The JSON schema (draft 7) of a start variable: read once, when the document is, and asked at every run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from app.graph.values import Value

Fault = Callable[[Value], str | None]
"""What is wrong with a value, or None."""


class SchemaInvalid(ValueError):
    """What a document calls a schema is none; the text says why, in Dify's words."""


def read_schema(written: object) -> Fault | None:
    """The schema that a document holds as a mapping or as JSON text; None where it holds none. Raises SchemaInvalid."""
    if isinstance(written, str):
        written = _parsed(written)
    if not written:
        return None
    if not isinstance(written, dict):
        raise SchemaInvalid(f"json_schema must be a JSON object, got {type(written).__name__}")
    return _fault_of(written)


def _fault_of(schema: Mapping[str, Any]) -> Fault:
    # A tenth of a second of the server's start, for which few documents have a use.
    from jsonschema import Draft7Validator  # noqa: PLC0415
    from jsonschema.exceptions import SchemaError, ValidationError  # noqa: PLC0415
    from referencing import Registry  # noqa: PLC0415
    from referencing.exceptions import Unresolvable  # noqa: PLC0415

    try:
        Draft7Validator.check_schema(schema)
    except SchemaError as error:
        raise SchemaInvalid(f"Invalid JSON schema: {error.message}") from None
    nowhere: Registry[Any] = Registry()  # a schema refers to itself alone: nothing is fetched for it
    validator = Draft7Validator(schema, registry=nowhere)

    def fault(value: Value) -> str | None:
        try:
            validator.validate(value)
        except ValidationError as error:
            return str(error.message)
        except (Unresolvable, RecursionError) as error:
            return str(error) or type(error).__name__
        return None

    return fault


def _parsed(text: str) -> object:
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise SchemaInvalid(f"json_schema is not valid JSON: {error}") from None
