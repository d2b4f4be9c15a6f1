"""A request as it is sent, and as it may be shown: with its keys masked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

import httpx
import msgspec
from json_repair import repair_json

from app.errors import NodeFailed
from app.graph.nodes.http_request import HttpRequest
from app.outbound.fetch import Asked

Load = Callable[[Mapping[str, Any]], bytes]
"""The bytes of a file."""

_CONTENT_TYPES = {
    "json": "application/json",
    "raw-text": "text/plain",
    "x-www-form-urlencoded": "application/x-www-form-urlencoded",
}
# A form without files is sent with an empty one, as Dify does it: receivers must get a form of several parts.
_PLACEHOLDER = ("__multipart_placeholder__", ("", b"", "application/octet-stream"))
_MASKED = frozenset(("authorization", "proxy-authorization", "cookie", "x-api-key", "api-key"))
_MOST_SHOWN = 20_000  # characters of a body


class Body(msgspec.Struct, frozen=True):
    """The bytes, their type (empty: nothing is said of it), and the text that stands for them in the log."""

    content: bytes | None = None
    content_type: str = ""
    shown: str = ""


class Message(msgspec.Struct, frozen=True):
    asked: Asked
    shown: str


def compose(work: HttpRequest, arguments: Mapping[str, Any], load: Load) -> Message:
    """The request of the node, out of what its graph has rendered. Raises NodeFailed."""
    body = _body(work.body_type, arguments["body"], load)
    url = _url(arguments["url"], arguments["params"])
    headers: dict[str, str] = dict(arguments["headers"])
    if work.body_type == "form-data":
        headers = {name: value for name, value in headers.items() if name.lower() != "content-type"}
    if body.content_type and "content-type" not in map(str.lower, headers):
        headers["Content-Type"] = body.content_type
    method = work.method.upper()
    asked = Asked(str(url), method, tuple(headers.items()), body.content)
    return Message(asked, _shown(method, url, headers, body, _MASKED | {arguments["secret"]}))


def _url(written: str, params: list[list[str]]) -> httpx.URL:
    """The URL with the parameters in its query; one that the URL has too is replaced there."""
    try:
        url = httpx.URL(written)
        if not url.host:
            raise httpx.InvalidURL("it has no host")
        pairs = [(name, value) for name, value in params if name]
        if not pairs:
            return url
        given = {name for name, _ in pairs}
        kept = [pair for pair in parse_qsl(url.query.decode(), keep_blank_values=True) if pair[0] not in given]
        return url.copy_with(query=urlencode(kept + pairs).encode())
    except (httpx.InvalidURL, UnicodeError) as error:
        raise NodeFailed(f"The URL can't be used: {str(error)[:200]}.", error_type="InvalidURLError") from None


def _body(kind: str, written: Mapping[str, Any], load: Load) -> Body:
    content_type = _CONTENT_TYPES.get(kind, "")
    match kind:
        case "json":
            return _json_body(written["text"], content_type)
        case "raw-text":
            return Body(written["text"].encode(), content_type, written["text"])
        case "x-www-form-urlencoded":
            text = urlencode([(name, value) for name, value in written["fields"]])
            return Body(text.encode(), content_type, text)
        case "binary":
            content = load(written["file"])
            return Body(content, "", f"<binary_content: size={len(content)} bytes>")
        case "form-data":
            return _form(written["fields"], written["files"], load)
    return Body()


def _json_body(text: str, content_type: str) -> Body:
    """What people write as JSON is mended, as far as it can be read at all."""
    try:
        value = _read_json(text)
        content = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise NodeFailed(f"Failed to parse JSON: {text[:1000]}", error_type="RequestBodyError") from None
    return Body(content, content_type, json.dumps(value)) if value is not None else Body()


def _read_json(text: str) -> Any:
    try:
        return json.loads(text, strict=False)
    except ValueError:
        return json.loads(str(repair_json(text)), strict=False)


def _form(fields: list[list[str]], files: list[list[Any]], load: Load) -> Body:
    """A form of several parts."""
    parts = [(name, (file["filename"], load(file), file["mime_type"])) for name, file in files]
    values: dict[str, Any] = {}
    for name, value in fields:
        values.setdefault(name, []).append(value)
    form = httpx.Request("POST", "http://form/", data=values, files=parts or [_PLACEHOLDER])
    content_type = form.headers["content-type"]
    boundary = content_type.partition("boundary=")[2]
    shown = [(name, value) for name, value in fields] + [
        (name, f"<file_content_binary: '{filename}', type='{mime_type}', size={len(content)} bytes>")
        for name, (filename, content, mime_type) in parts
    ]
    lines = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in shown
    )
    return Body(form.read(), content_type, f"{lines}--{boundary}--\r\n")


def _shown(method: str, url: httpx.URL, headers: Mapping[str, str], body: Body, masked: frozenset[str]) -> str:
    """The request as text. Its URL is shown without a name and a password, its keys as asterisks."""
    port = "" if url.port is None else f":{url.port}"
    lines = [f"{method} {url.raw_path.decode()} HTTP/1.1", f"Host: {url.host}{port}"]
    lines += [f"{name}: {'*' * len(value) if name.lower() in masked else value}" for name, value in headers.items()]
    if body.content:
        lines.append(f"Content-Length: {len(body.content)}")
    more = len(body.shown) - _MOST_SHOWN
    text = body.shown if more <= 0 else f"{body.shown[:_MOST_SHOWN]}… ({more} characters more)"
    return "\r\n".join([*lines, "", text])
