"""The JSON schema (draft 7) of a start variable: read once, when the document is, and asked at every run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft7Validator
from jsonschema.exceptions import SchemaError, ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable

from app.graph.values import Value

_NOWHERE: Registry[Any] = Registry()
"""A schema refers to itself alone: nothing is fetched for it."""


class SchemaInvalid(ValueError):
    """What a document calls a schema is none; the text says why, in Dify's words."""


class Schema:
    def __init__(self, written: Mapping[str, Any]) -> None:
        """Raises SchemaInvalid."""
        try:
            Draft7Validator.check_schema(written)
        except SchemaError as error:
            raise SchemaInvalid(f"Invalid JSON schema: {error.message}") from None
        self._validator = Draft7Validator(written, registry=_NOWHERE)

    def fault(self, value: Value) -> str | None:
        """What is wrong with the value, or None."""
        try:
            self._validator.validate(value)
        except ValidationError as error:
            return str(error.message)
        except (Unresolvable, RecursionError) as error:
            return str(error) or type(error).__name__
        return None


def read_schema(written: object) -> Schema | None:
    """The schema that a document holds as a mapping or as JSON text; None where it holds none. Raises SchemaInvalid."""
    if isinstance(written, str):
        written = _parsed(written)
    if not written:
        return None
    if not isinstance(written, dict):
        raise SchemaInvalid(f"json_schema must be a JSON object, got {type(written).__name__}")
    return Schema(written)


def _parsed(text: str) -> object:
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise SchemaInvalid(f"json_schema is not valid JSON: {error}") from None
