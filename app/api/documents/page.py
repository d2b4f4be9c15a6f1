"""The OpenAPI document for people: one page without scripts, fonts or anything else from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

Json = Mapping[str, Any]

_DEEPEST = 2  # how far into an answer its fields are listed
_TEMPLATE = Path(__file__).with_name("page.html")


class Field(NamedTuple):
    """A parameter, or a field of a body or an answer."""

    name: str
    place: str
    kind: str
    required: bool
    says: str


def page(document: Json) -> str:
    """The document as HTML."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(_TEMPLATE.read_text())
    return template.render(document=document, chapters=list(_chapters(document)), paragraphs=_paragraphs)


def _chapters(document: Json) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    shown = [
        _shown(document, path, method, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    for tag in document["tags"]:
        yield tag["name"], [each for each in shown if each["tag"] == tag["name"]]


def _shown(document: Json, path: str, method: str, operation: Json) -> dict[str, Any]:
    reader = _Reader(document)
    sent = operation.get("requestBody", {}).get("content", {})
    body = sent.get("application/json", {}).get("schema")
    form = sent.get("multipart/form-data", {}).get("schema")
    fields = [
        Field(each["name"], each["in"], reader.kind(each["schema"]), each["required"], each.get("description", ""))
        for each in operation["parameters"]
    ]
    fields += reader.fields(body, "body") if body else []
    fields += reader.fields(form, "form") if form else []
    return {
        "id": operation["operationId"],
        "tag": operation["tags"][0],
        "method": method.upper(),
        "path": path,
        "summary": operation["summary"],
        "description": operation["description"],
        "fields": fields,
        "curl": _curl(path, method.upper(), reader.example(body) if body else None, bool(operation["security"])),
        "answers": [_answer(reader, status, answer) for status, answer in operation["responses"].items()],
    }


def _answer(reader: _Reader, status: str, answer: Json) -> dict[str, Any]:
    answer = reader.resolved(answer)
    content = answer.get("content", {})
    schema = content.get("application/json", {}).get("schema")
    is_error = int(status) >= 400 and schema is not None and "Error" in schema.get("$ref", "")
    return {
        "status": status,
        "says": answer["description"],
        "media": ", ".join(content) or "no body",
        "fields": reader.fields(schema, "") if schema and not is_error else [],
    }


def _curl(path: str, method: str, body: Any, with_key: bool) -> str:
    lines = [f'curl "$ATELIER{path}"' if method == "GET" else f'curl -X {method} "$ATELIER{path}"']
    if with_key:
        lines.append('  -H "Authorization: Bearer $KEY"')
    if body is not None:
        lines.append("  -H 'Content-Type: application/json'")
        lines.append("  -d '" + json.dumps(body, ensure_ascii=False).replace("'", "'\\''") + "'")
    return " \\\n".join(lines)


def _paragraphs(written: str) -> list[list[str]]:
    """Each paragraph in parts, every other of which is code: all of Markdown that our descriptions use."""
    return [paragraph.split("`") for paragraph in written.split("\n\n")]


class _Reader:
    """Reads schemas and examples, whatever stands for them."""

    def __init__(self, document: Json) -> None:
        self._document = document

    def resolved(self, schema: Json) -> Json:
        if "$ref" not in schema:
            return schema
        found: Any = self._document
        for word in schema["$ref"].removeprefix("#/").split("/"):
            found = found[word]
        return dict(found)

    def fields(self, schema: Json, place: str, within: str = "") -> list[Field]:
        """The fields of an object, those of the objects in it behind it: `data`, `data.status`, `steps[].id`."""
        found = []
        for name, field, required in self._own_fields(schema):
            found.append(Field(f"{within}{name}", place, self.kind(field), required, _says(field)))
            inner, step = self._inner(field)
            if inner is not None and within.count(".") < _DEEPEST:
                found += self.fields(inner, place, f"{within}{name}{step}.")
        return found

    def _own_fields(self, schema: Json) -> Iterator[tuple[str, Json, bool]]:
        schema = self.resolved(schema)
        for name, field in schema.get("properties", {}).items():
            yield name, field, name in schema.get("required", ())
        if "anyOf" in schema:  # what any of them has, once
            every = {name: field for choice in schema["anyOf"] for name, field, _ in self._own_fields(choice)}
            yield from ((name, field, False) for name, field in every.items())

    def _inner(self, field: Json) -> tuple[Json | None, str]:
        """The object in a field, if there is one, and how it is written: `[]` for those of a list."""
        field = next((choice for choice in field.get("anyOf", ()) if choice.get("type") != "null"), field)
        field = self.resolved(field)
        if field.get("type") == "array":
            items = self.resolved(field.get("items", {}))
            return (items, "[]") if "properties" in items else (None, "")
        return (field, "") if "properties" in field else (None, "")

    def kind(self, schema: Json) -> str:
        """The type in words: `integer, 1 to 100, else 20`."""
        return ", ".join(self._kind(schema))

    def _kind(self, schema: Json) -> Iterable[str]:
        default = [f"else {json.dumps(schema['default'])}"] if schema.get("default") not in (None, "", [], {}) else []
        schema = self.resolved(schema)
        if "anyOf" in schema:
            return [" or ".join(self.kind(choice) for choice in schema["anyOf"]), *default]
        if "enum" in schema:
            return [" | ".join(str(choice) for choice in schema["enum"] if choice != ""), *default]
        if schema.get("type") == "array":
            return [f"list of {self.kind(schema.get('items', {})) or 'anything'}", *default]
        return [schema.get("title") or str(schema.get("type", "anything")), *_bounds(schema), *default]

    def example(self, schema: Json) -> Any:
        """The schema's own example, or one put together from what must be there and what has an example."""
        schema = self.resolved(schema)
        if schema.get("examples"):
            return schema["examples"][0]
        if "properties" in schema:
            return {
                name: self.example(field)
                for name, field in schema["properties"].items()
                if name in schema.get("required", ()) or field.get("examples")
            }
        if schema.get("anyOf"):
            return self.example(schema["anyOf"][0])
        if schema.get("enum"):
            return schema["enum"][0]
        plain = {"object": {}, "array": [], "integer": 0, "number": 0, "boolean": False, "null": None}
        return plain.get(schema.get("type", ""), "…")


def _says(field: Json) -> str:
    """A field's description, also where null is allowed besides and it stands with the other choice."""
    choices = (choice.get("description", "") for choice in field.get("anyOf", ()))
    return str(field.get("description", "") or next(filter(None, choices), ""))


def _bounds(schema: Json) -> Iterator[str]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        yield f"{low} to {high}"
    elif low is not None or high is not None:
        yield f"at least {low}" if low is not None else f"at most {high}"
    if "maxLength" in schema:
        yield f"at most {schema['maxLength']} characters"
    if "maxItems" in schema:
        yield f"at most {schema['maxItems']}"
    if "format" in schema:
        yield str(schema["format"])
