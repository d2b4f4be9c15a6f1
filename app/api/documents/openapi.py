"""The OpenAPI document of a list of operations, made of the same types that read the requests and write the answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from app.api.dify.errors import Error
from app.api.operation import EVENT_STREAM, Content, Described, Operation, header_name
from app.errors import (
    AtelierError,
    BadRequest,
    BodyTooLarge,
    Forbidden,
    InvalidParam,
    MethodNotAllowed,
    NotFound,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
    sentence,
)

Json = dict[str, Any]

_ABOUT = """\
Requests for pictures as durable workflow runs. An accepted run is never lost, never doubled and always ends; whoever
has its id can see where it is.

Send a key with each request: `Authorization: Bearer app-…`. `atelier keys create` makes one. A key belongs to one app
and sees the runs of that app only.

Every error has the same shape (`Error`). `code` is for programs, `message` for people; `retryable` says whether the
same request may succeed a little later. An unknown path is a 404, a wrong method a 405, in the same shape. Every answer
has an `X-Request-Id`, the caller's own if it sent a decent one; the server's log lines carry it.
"""

_SCHEMAS = "#/components/schemas/{name}"
_IN_PATH = re.compile(r"\{(\w+)(?::\w+)?\}")
_CHAPTERS = {
    "workflows": "Runs",
    "workflow": "Runs",
    "info": "App",
    "parameters": "App",
    "meta": "App",
    "site": "App",
    "files": "Files",
}
_HEADERS_OF = {401: "WWW-Authenticate", 405: "Allow", 429: "Retry-After", 503: "Retry-After"}
_HEADERS = {
    "X-Request-Id": "The request's id: its own, if it brought a decent one.",
    "WWW-Authenticate": "Which kind of key is expected.",
    "Allow": "The methods that the path knows.",
    "Retry-After": "Seconds to wait before asking again.",
}
_ALWAYS = (AtelierError, BadRequest, MethodNotAllowed)
_WITH_KEY = (Unauthorized, Forbidden, Unavailable)
_WITH_BODY = (InvalidParam, BodyTooLarge, UnsupportedMediaType)


def openapi(operations: Sequence[Described], version: str) -> Json:
    """The document, version 3.1. Operations stand in the order of the list."""
    schemas = _Schemas()
    paths: dict[str, Json] = {}
    for each in operations:
        paths.setdefault(_IN_PATH.sub(r"{\1}", each.path), {})[each.method.lower()] = _operation(each, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Atelier",
            "version": version,
            "summary": "Requests for pictures as durable workflow runs",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(chapter(each) for each in operations)],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "A key of the app: `app-…`"}
            },
            "headers": {
                name: {"description": says, "schema": {"type": "string"}} for name, says in sorted(_HEADERS.items())
            },
            "responses": dict(sorted(schemas.responses.items())),
            "schemas": dict(sorted(schemas.components.items())),
        },
    }


def chapter(operation: Described) -> str:
    """The chapter that an operation stands in: `/v1/webhooks/{id}` in Webhooks."""
    words = [word for word in operation.path.split("/") if word not in ("", "v1", "admin")]
    return operation.tag or _CHAPTERS.get(words[0], words[0].replace("-", " ").capitalize())


def errors_of(operation: Described) -> list[type[AtelierError]]:
    """Every error that the operation may answer with."""
    found: list[type[AtelierError]] = [*_ALWAYS, *operation.raises]
    if isinstance(operation, Operation):
        found += _WITH_KEY
    if operation.body is not None:
        found += _WITH_BODY
    if operation.query is not None or operation.headers is not None:
        found.append(InvalidParam)
    if _IN_PATH.search(operation.path):
        found.append(NotFound)
    return list(dict.fromkeys(found))


class _Schemas:
    """The document's schemas and error answers: each once, under its name, however many operations speak of it."""

    def __init__(self) -> None:
        self.components: dict[str, Json] = {}
        self.responses: dict[str, Json] = {}

    def of(self, kind: Any) -> Json:
        """A reference to the type, or its schema where it has no name."""
        (schema,), components = msgspec.json.schema_components([kind], ref_template=_SCHEMAS)
        self._add(components)
        return dict(schema)

    def fields(self, kind: type) -> Iterator[tuple[str, Json, bool]]:
        """(name, schema, whether it must be there) of a struct, which gets no name of its own."""
        (schema,), components = msgspec.json.schema_components([kind], ref_template=_SCHEMAS)
        own: Json = components.pop(schema["$ref"].rpartition("/")[2])
        self._add(components)
        for name, field in own["properties"].items():
            yield name, field, name in own.get("required", ())

    def _add(self, components: Mapping[str, Json]) -> None:
        for name, schema in components.items():
            if self.components.setdefault(name, schema) != schema:
                raise ValueError(f"two types of the API are called {name}: rename one")

    def error(self, errors: Sequence[type[AtelierError]], shape: type | None) -> Json:
        """A reference to the answer with one of these errors, which have the same status."""
        codes = list(dict.fromkeys(error.code for error in errors))
        status = errors[0].status
        name = f"{status}-{'-'.join(sorted({error.__name__ for error in errors}))}"
        schema = self.of(Error) | {"properties": {"code": {"enum": codes}, "status": {"const": status}}}
        if shape is not None:
            name, schema = f"{shape.__name__}-{name}", self.of(shape)
        self.responses[name] = {
            "description": "\n\n".join(f"`{error.code}`: {sentence(error)}" for error in errors),
            "headers": _headers("X-Request-Id", *([_HEADERS_OF[status]] if status in _HEADERS_OF else ())),
            "content": {"application/json": {"schema": schema}},
        }
        return {"$ref": f"#/components/responses/{name}"}


def _operation(each: Described, schemas: _Schemas) -> Json:
    written: Json = {
        "operationId": _name_of(each),
        "tags": [chapter(each)],
        "summary": each.summary,
        "description": _description(each),
        "parameters": list(_parameters(each, schemas)),
    }
    sent = {"application/json": each.body, "multipart/form-data": each.form}
    content = {kind: {"schema": schemas.of(body)} for kind, body in sent.items() if body is not None}
    if content:
        written["requestBody"] = {"required": True, "content": content}
    written["responses"] = dict(_responses(each, schemas))
    written["security"] = [{"key": []}] if isinstance(each, Operation) else []
    return written


def _name_of(each: Described) -> str:
    """`get_workflows_run_run_id`: it stays the same while the path does."""
    words = ["root"] if each.path == "/" else re.findall(r"\w+", each.path.removeprefix("/v1"))
    return "_".join([each.method.lower(), *words]).replace("-", "_")


def _description(each: Described) -> str:
    needs = f"Needs a key with the scope `{each.scope.value}`." if isinstance(each, Operation) else "Needs no key."
    return f"{each.description}\n\n{needs}" if each.description else needs


def _parameters(each: Described, schemas: _Schemas) -> Iterator[Json]:
    for name in _IN_PATH.findall(each.path):
        meaning = f"The {name.removesuffix('_id').replace('_', ' ')}'s id." if name.endswith("_id") else f"The {name}."
        yield {"name": name, "in": "path", "required": True, "description": meaning, "schema": {"type": "string"}}
    for place, kind in (("query", each.query), ("header", each.headers)):
        if kind is None:
            continue
        for name, schema, required in schemas.fields(kind):
            shown = header_name(name) if place == "header" else name
            plain = _without_null(schema)
            says = {"description": plain.pop("description")} if "description" in plain else {}
            yield {"name": shown, "in": place, "required": required, **says, "schema": plain}


def _without_null(schema: Json) -> Json:
    """What may stand in a URL or a header, where null is not written but left out."""
    schema = {name: value for name, value in schema.items() if not (name == "default" and value is None)}
    others = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if len(others) == 1:
        del schema["anyOf"]
        return {**schema, **others[0]}
    return {**schema, "anyOf": others} if others else schema


def _responses(each: Described, schemas: _Schemas) -> Iterator[tuple[str, Json]]:
    for status, content in sorted(each.answers.items()):
        yield str(status), _answer(status, content, schemas)
    by_status: dict[int, list[type[AtelierError]]] = {}
    for error in errors_of(each):
        if error.status not in each.answers:
            by_status.setdefault(error.status, []).append(error)
    for status in sorted(by_status):
        yield str(status), schemas.error(sorted(by_status[status], key=lambda error: error.__name__), each.error)


def _answer(status: int, content: Content, schemas: _Schemas) -> Json:
    """Of several types any may come; a text that is no media type says why there is no body."""
    kinds = () if content is None else content if isinstance(content, tuple) else (content,)
    types = [schemas.of(kind) for kind in kinds if not isinstance(kind, str)]
    says, content_of = _SAYS.get(status, "As asked."), {}
    if types:
        content_of["application/json"] = {"schema": types[0] if len(types) == 1 else {"anyOf": types}}
    for kind in kinds:
        if isinstance(kind, str) and _MEDIA_TYPE.fullmatch(kind):
            is_text = kind.startswith("text/") and kind != EVENT_STREAM
            content_of[kind] = {"schema": {"type": "string"}} if is_text else {}
        elif isinstance(kind, str):
            says = kind
    answer = {"description": says, "headers": _headers("X-Request-Id")}
    return {**answer, "content": content_of} if content_of else answer


_MEDIA_TYPE = re.compile(r"[\w.+*-]+/[\w.+*-]+")
_SAYS = {201: "Made.", 202: "Accepted.", 204: "Done.", 302: "Found.", 304: "Nothing has changed.", 503: "Not now."}


def _headers(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
