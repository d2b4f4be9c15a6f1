"""http-request: a request, written out of the pool's values; a worker sends it.

What is rendered goes to the worker as hidden arguments: it may hold keys. The step shows the request as text, with them
masked, once it has been sent.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Self

import msgspec

from app.domain.artifact import is_artifact
from app.errors import NodeFailed
from app.graph.nodes.kind import Configuration, NodeKind, WorkerCall
from app.graph.selectors import Selector, TextTemplate, as_selector
from app.graph.values import Value, is_file_list
from app.graph.variables import VariablePool

METHODS = ("get", "post", "put", "patch", "delete", "head", "options")
BODY_TYPES = ("none", "form-data", "x-www-form-urlencoded", "raw-text", "json", "binary")
_ONE_ITEM = frozenset(("raw-text", "json", "binary"))
# What the connection says of itself is the sender's, not the author's: a second length would be a second request.
_OF_THE_CONNECTION = frozenset(
    (
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)


class HttpTimeout(msgspec.Struct, frozen=True):
    """Seconds."""

    connect_s: float = 10.0
    read_s: float = 600.0
    write_s: float = 600.0


class Authorization(msgspec.Struct, frozen=True):
    form: str
    key: TextTemplate
    header: str

    def value(self, pool: VariablePool) -> str:
        """The header's value. Raises NodeFailed for an empty key."""
        key = self.key.render(pool.get)
        if not key.strip():
            raise _failed(
                "API key is required for authorization but was empty. Please provide a valid API key.",
                "AuthorizationConfigError",
            )
        if self.form == "custom":
            return key
        if self.form == "basic":
            return f"Basic {base64.b64encode(key.encode()).decode() if ':' in key else key}"
        return f"Bearer {key}"


class HeaderLine(msgspec.Struct, frozen=True):
    """A line of the headers. One with a written name is one header, whatever its value holds; one without (it is but a
    reference) may become several."""

    name: TextTemplate | None
    value: TextTemplate

    def render(self, pool: VariablePool) -> Iterator[tuple[str, str]]:
        value = self.value.render(pool.get)
        if self.name is not None:
            yield self.name.render(pool.get).strip(), " ".join(value.split("\n")).replace("\r", "").strip()
            return
        for line in filter(str.strip, value.splitlines()):
            name, _, rest = line.partition(":")
            yield name.strip(), rest.strip()


class BodyItem(msgspec.Struct, frozen=True):
    """A field of a form, or the body itself: a text or the selector of files."""

    key: TextTemplate
    value: TextTemplate
    file: Selector | None


class HttpRequest(NodeKind, frozen=True):
    """`is_strict`: a status that is no success is a failure, for somebody waits to hear of it."""

    kind: ClassVar[str] = "http-request"
    retries: ClassVar[bool] = True
    method: str
    url: TextTemplate
    authorization: Authorization | None
    headers: tuple[HeaderLine, ...]
    params: tuple[tuple[TextTemplate, TextTemplate], ...]
    body_type: str
    body: tuple[BodyItem, ...]
    timeout: HttpTimeout
    verifies: bool
    is_strict: bool

    @classmethod
    def read(cls, configuration: Configuration) -> Self:
        entries = configuration.entries
        body = _read_body(configuration)
        return cls(
            method=_choice("method", entries.get("method") or "get", METHODS, configuration),
            url=TextTemplate.of(configuration.text("url").strip()),
            authorization=_read_authorization(configuration),
            headers=tuple(map(_read_header, _lines("headers", configuration))),
            params=tuple(map(_read_param, _lines("params", configuration))),
            body_type=_choice("the body's type", str(body.get("type") or "none"), BODY_TYPES, configuration),
            body=tuple(_read_items(body, configuration)),
            timeout=_read_timeout(configuration),
            verifies=entries.get("ssl_verify") is not False,
            is_strict=_is_strict(configuration),
        )

    @property
    def selectors(self) -> Iterable[Selector]:
        yield from self.url.selectors
        if self.authorization:
            yield from self.authorization.key.selectors
        for line in self.headers:
            yield from line.name.selectors if line.name else ()
            yield from line.value.selectors
        for name, value in self.params:
            yield from (*name.selectors, *value.selectors)
        for item in self.body:
            yield from (item.file,) if item.file else (*item.key.selectors, *item.value.selectors)

    def execute(self, pool: VariablePool) -> WorkerCall:
        """The request as a call for a worker, in texts and files. Raises NodeFailed, in Dify's words."""
        headers = {name: value for line in self.headers for name, value in line.render(pool) if name}
        headers = {name: value for name, value in headers.items() if name.lower() not in _OF_THE_CONNECTION}
        secret = self.authorization.header if self.authorization else ""
        if self.authorization:
            value = self.authorization.value(pool)
            headers = {name: text for name, text in headers.items() if name.lower() != secret.lower()}
            headers[secret] = value
        return WorkerCall(
            "cpu",
            {},
            {
                "url": _checked_url(self.url.render(pool.get).strip()),
                "params": [[name.render(pool.get), value.render(pool.get)] for name, value in self.params],
                "headers": [[name, value] for name, value in headers.items()],
                "secret": secret.lower(),
                "body": self._body(pool),
            },
        )

    def _body(self, pool: VariablePool) -> dict[str, Any]:
        if self.body_type in _ONE_ITEM and len(self.body) != 1:
            raise _failed(f"{self.body_type} body type should have exactly one item", "RequestBodyError")
        if self.body_type in ("json", "raw-text"):
            return {"text": self.body[0].value.render(pool.get)}
        if self.body_type == "binary":
            return {"file": _file(self.body[0].file, pool)}
        texts = [item for item in self.body if item.file is None]
        fields = [[item.key.render(pool.get), item.value.render(pool.get)] for item in texts]
        if self.body_type == "x-www-form-urlencoded":
            return {"fields": fields}
        if self.body_type == "form-data":
            return {"fields": fields, "files": list(_form_files(self.body, pool))}
        return {}


def _checked_url(url: str) -> str:
    if not url:
        raise _failed("url is required", "InvalidURLError")
    if not url.lower().startswith(("http://", "https://")):
        raise _failed("url should start with http:// or https://", "InvalidURLError")
    return url


def _file(selector: Selector | None, pool: VariablePool) -> Value:
    found = pool.get(selector, None) if selector else None
    if not is_artifact(found):
        raise _failed(f"cannot fetch file with selector {list(selector or ())}", "FileFetchError")
    return found


def _form_files(items: Iterable[BodyItem], pool: VariablePool) -> Iterator[list[Value]]:
    """[key, file] for each file of the form; a selector that finds none adds none."""
    for item in items:
        found = pool.get(item.file, None) if item.file else None
        files: list[Value] = [found] if is_artifact(found) else []
        if isinstance(found, list) and is_file_list(found):
            files = found
        yield from ([item.key.render(pool.get), file] for file in files)


def _failed(message: str, error_type: str) -> NodeFailed:
    return NodeFailed(message, error_type=error_type)


def _choice(what: str, written: object, known: tuple[str, ...], configuration: Configuration) -> str:
    name = str(written).lower()
    if name not in known:
        configuration.problem(f"{what} must be one of {', '.join(known)}, got {written!r}")
        return known[0]
    return name


def _read_authorization(configuration: Configuration) -> Authorization | None:
    written = configuration.mapping("authorization")
    if (written.get("type") or "no-auth") == "no-auth":
        return None
    _choice("the authorization's type", written["type"], ("api-key", "no-auth"), configuration)
    config = configuration.mapping("config", written)
    form = _choice(
        "the authorization's config.type", config.get("type") or "bearer", ("bearer", "basic", "custom"), configuration
    )
    header = str(config.get("header") or "").strip() or "Authorization"
    return Authorization(form, TextTemplate.of(str(config.get("api_key") or "")), header)


def _lines(key: str, configuration: Configuration) -> Iterator[str]:
    written = configuration.entries.get(key) or ""
    if not isinstance(written, str):
        configuration.problem(f"{key} must be a text with a line for each, 'name:value'")
        return
    yield from filter(None, map(str.strip, written.splitlines()))


def _read_header(line: str) -> HeaderLine:
    name, colon, value = line.partition(":")
    if not colon and any(TextTemplate.of(line).selectors):
        return HeaderLine(None, TextTemplate.of(line))
    return HeaderLine(TextTemplate.of(name.strip()), TextTemplate.of(value.strip()))


def _read_param(line: str) -> tuple[TextTemplate, TextTemplate]:
    name, _, value = line.partition(":")
    return TextTemplate.of(name.strip()), TextTemplate.of(value.strip())


def _read_body(configuration: Configuration) -> Mapping[str, Any]:
    """Documents of old hold the body's text where newer ones hold a list of items."""
    body = configuration.mapping("body")
    if isinstance(body.get("data"), str):
        items = [{"type": "text", "value": body["data"]}] if body["data"] else []
        return {**body, "data": items}
    return body


def _read_items(body: Mapping[str, Any], configuration: Configuration) -> Iterator[BodyItem]:
    for item in configuration.mappings("data", body):
        is_file = item.get("type") == "file" or (body.get("type") == "binary" and bool(item.get("file")))
        selector = as_selector(item.get("file")) if is_file else None
        if is_file and selector is None:
            configuration.warn(f"field '{item.get('key') or ''}' of the body names no file")
            selector = ("", "")
        yield BodyItem(TextTemplate.of(_text(item.get("key"))), TextTemplate.of(_text(item.get("value"))), selector)


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _read_timeout(configuration: Configuration) -> HttpTimeout:
    """Null and 0 are the defaults; files hold numbers as texts, too."""
    written = configuration.mapping("timeout")
    read: dict[str, float] = {}
    for name in ("connect", "read", "write"):
        value = written.get(name) or 0
        try:
            seconds = float(value)
        except (TypeError, ValueError):
            configuration.problem(f"timeout.{name} must be a number of seconds, got {value!r}")
            continue
        if 0 < seconds < 1e6:
            read[f"{name}_s"] = seconds
    return HttpTimeout(**read)


def _is_strict(configuration: Configuration) -> bool:
    strategy = configuration.entries.get("error_strategy")
    retry = configuration.mapping("retry_config")
    return strategy not in (None, "", "none") or retry.get("retry_enabled") is True
