"""An endpoint that speaks OpenAI's chat completions: the request as it wants it, its stream as pieces."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import httpx

from app.errors import NodeFailed
from app.settings import LlmEndpoint
from workers.text.request import Piece, ShownFile, TextRequest, Turn, Usage

_CONNECT_S = 10.0
_LONGEST_ANSWER = 16 * 1024 * 1024  # bytes of the stream
_LONGEST_COMPLAINT = 500  # characters of an error that are passed on

# What every server of this kind takes. Parameters with names of other providers are told by their names here, what is
# left is dropped: OpenAI refuses a request with a parameter that it does not know.
_PARAMETERS = frozenset(
    {
        "temperature",
        "top_p",
        "max_tokens",
        "max_completion_tokens",
        "presence_penalty",
        "frequency_penalty",
        "stop",
        "seed",
        "logit_bias",
        "reasoning_effort",
        "verbosity",
    }
)
_RENAMED = {"max_tokens_to_sample": "max_tokens", "max_output_tokens": "max_tokens", "num_predict": "max_tokens"}
_JSON_ONLY = "Answer with one JSON object that fits this JSON schema, and nothing else:\n"
_AUDIO = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}


class OpenAiChat:
    """A `TextEngine` over HTTP. One request a call; whether to ask again is the node's to say."""

    def __init__(self, endpoint: LlmEndpoint) -> None:
        self._endpoint = endpoint

    async def stream(self, request: TextRequest) -> AsyncIterator[Piece]:
        endpoint = self._endpoint
        headers = {"accept": "text/event-stream, application/json", **endpoint.headers}
        if endpoint.api_key:
            headers["authorization"] = f"Bearer {endpoint.api_key}"
        timeout = httpx.Timeout(endpoint.timeout_s, connect=min(_CONNECT_S, endpoint.timeout_s))
        async with httpx.AsyncClient(verify=_certificates(endpoint.url), timeout=timeout) as client:
            with self._told():
                url, body = f"{endpoint.url}/chat/completions", self.body(request)
                async with client.stream("POST", url, json=body, headers=headers) as answer:
                    if answer.is_error or answer.is_redirect:
                        raise self._refused(answer.status_code, await _beginning(answer))
                    if "json" in answer.headers.get("content-type", ""):
                        yield self._whole(await answer.aread())
                        return
                    async for piece in self._pieces(answer):
                        yield piece

    def body(self, request: TextRequest) -> dict[str, Any]:
        """The request as the endpoint wants it."""
        endpoint = self._endpoint
        turns = request.turns
        asked = _parameters(request.parameters)
        if request.schema is not None:
            if endpoint.structured_output == "json_schema":
                answer = {"name": "answer", "schema": request.schema}
                asked["response_format"] = {"type": "json_schema", "json_schema": answer}
            else:
                turns = _told_first(turns, _JSON_ONLY + json.dumps(request.schema, ensure_ascii=False))
                if endpoint.structured_output == "json_object":
                    asked["response_format"] = {"type": "json_object"}
        if request.function is not None and endpoint.tools:
            function = request.function
            told = {"name": function.name, "description": function.description, "parameters": function.schema}
            asked["tools"] = [{"type": "function", "function": told}]
        elif request.function is not None:
            turns = _told_first(turns, _JSON_ONLY + json.dumps(request.function.schema, ensure_ascii=False))
        if endpoint.stream_usage:
            asked["stream_options"] = {"include_usage": True}
        messages = [_message(turn, shows_files=endpoint.vision) for turn in turns]
        return {
            "model": endpoint.name_of(request.model),
            "messages": [message for message in messages if message["content"]],
            "stream": True,
            **asked,
            **endpoint.body,
        }

    async def _pieces(self, answer: httpx.Response) -> AsyncIterator[Piece]:
        """The events of the stream. One that breaks off without having said that it ends is a failure."""
        received, has_ended = 0, False
        async for line in answer.aiter_lines():
            received += len(line)
            if received > _LONGEST_ANSWER:
                raise NodeFailed(f"{self._name} answers more than {_LONGEST_ANSWER} bytes.", error_type="InvokeError")
            if not line.startswith("data:"):
                continue
            told = line[len("data:") :].strip()
            if told == "[DONE]":
                return
            piece = self._piece(told)
            has_ended |= piece.finish_reason is not None
            yield piece
        if not has_ended:
            raise NodeFailed(f"{self._name} ended its answer in the middle.", error_type="InvokeConnectionError")

    def _piece(self, told: str) -> Piece:
        event = self._read(told)
        choice = _mapping((event.get("choices") or [None])[0])
        delta = _mapping(choice.get("delta"))
        return _piece_of(delta, choice.get("finish_reason"), event.get("usage"))

    def _whole(self, body: bytes) -> Piece:
        """The answer of a server that does not stream."""
        event = self._read(body)
        choice = _mapping((event.get("choices") or [None])[0])
        return _piece_of(_mapping(choice.get("message")), choice.get("finish_reason") or "stop", event.get("usage"))

    def _read(self, told: str | bytes) -> Mapping[str, Any]:
        try:
            event = json.loads(told)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict) or not isinstance(event.get("choices") or [], list):
            raise NodeFailed(f"{self._name} answers something else than chat completions.", error_type="InvokeError")
        if event.get("error"):
            said = self._clean(_complaint(event))
            raise NodeFailed(f"{self._name} failed: {said}", error_type="InvokeServerUnavailableError")
        return event

    @property
    def _name(self) -> str:
        return f"The endpoint {self._endpoint.url}"

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong on the way, as a sentence."""
        try:
            yield
        except httpx.ConnectError as error:
            raise NodeFailed(f"{self._name} can't be reached: {error}", error_type="InvokeConnectionError") from None
        except httpx.TimeoutException as error:
            waited_s = _CONNECT_S if isinstance(error, httpx.ConnectTimeout) else self._endpoint.timeout_s
            said = f"{self._name} was silent for {min(waited_s, self._endpoint.timeout_s):g} s."
            raise NodeFailed(said, error_type="InvokeConnectionError") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            said = f"The answer of {self._endpoint.url} broke off: {str(error) or type(error).__name__}"
            raise NodeFailed(said, error_type="InvokeConnectionError") from None

    def _refused(self, status: int, body: bytes) -> NodeFailed:
        try:
            complaint = _complaint(json.loads(body))
        except (ValueError, RecursionError):
            complaint = body.decode(errors="replace").strip()
        said = f"{self._name} answers {status}: {self._clean(complaint) or 'nothing more'}"
        return NodeFailed(said, error_type=_error_type(status))

    def _clean(self, text: str) -> str:
        """The beginning of what a server says, without the key that it may repeat."""
        key = self._endpoint.api_key
        return (text.replace(key, "(hidden)") if key else text)[:_LONGEST_COMPLAINT]


def _certificates(url: str) -> ssl.SSLContext:
    """What to trust; nothing has to be read where there is nothing to verify."""
    return _every_authority() if url.startswith("https:") else _no_authority()


@cache
def _every_authority() -> ssl.SSLContext:
    """Made once: it reads all certificates that there are, which takes longer than a request."""
    return httpx.create_ssl_context()


@cache
def _no_authority() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _parameters(written: Mapping[str, Any]) -> dict[str, Any]:
    asked = {_RENAMED.get(name, name): value for name, value in written.items()}
    kept = {name: value for name, value in asked.items() if name in _PARAMETERS and value not in ("", [])}
    wanted = written.get("response_format")
    if wanted == "json_object":
        kept["response_format"] = {"type": "json_object"}
    elif wanted == "json_schema":
        schema = written.get("json_schema")
        try:
            schema = json.loads(schema) if isinstance(schema, str) else schema
        except ValueError:
            schema = None
        if isinstance(schema, dict):
            kept["response_format"] = {"type": "json_schema", "json_schema": schema}
    return kept


def _told_first(turns: tuple[Turn, ...], text: str) -> tuple[Turn, ...]:
    """The conversation with a text at the end of its system message."""
    if turns and turns[0].role == "system":
        return (Turn("system", f"{turns[0].text}\n{text}", turns[0].files), *turns[1:])
    return (Turn("system", text), *turns)


def _message(turn: Turn, *, shows_files: bool) -> dict[str, Any]:
    parts = [part for file in turn.files if (part := _part(file))] if shows_files else []
    if not parts:
        return {"role": turn.role, "content": turn.text}
    return {"role": turn.role, "content": [*parts, *([{"type": "text", "text": turn.text}] if turn.text else [])]}


def _part(file: ShownFile) -> dict[str, Any] | None:
    """A file inside a message; None for a kind that there is no form for."""
    encoded = base64.b64encode(file.content).decode()
    inline = f"data:{file.mime_type};base64,{encoded}"
    if file.mime_type.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": inline, "detail": file.detail}}
    if file.mime_type in _AUDIO:
        return {"type": "input_audio", "input_audio": {"data": encoded, "format": _AUDIO[file.mime_type]}}
    if file.mime_type == "application/pdf":
        return {"type": "file", "file": {"filename": file.filename, "file_data": inline}}
    return None


def _piece_of(said: Mapping[str, Any], finish_reason: object, usage: object) -> Piece:
    calls = said.get("tool_calls") or [{}]
    call = _mapping(_mapping(calls[0] if isinstance(calls, list) else None).get("function"))
    return Piece(
        text=_text(said.get("content")),
        thought=_text(said.get("reasoning_content") or said.get("reasoning")),
        call=_text(call.get("arguments")),
        finish_reason=finish_reason if isinstance(finish_reason, str) else None,
        usage=_usage(usage),
    )


def _usage(usage: object) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    counts = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
    return Usage(*(count if isinstance(count, int) and count > 0 else 0 for count in counts))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _complaint(body: object) -> str:
    """What an error says, in any of the forms that servers have for it."""
    error = body.get("error") if isinstance(body, dict) else body
    said = error.get("message") if isinstance(error, dict) else error
    return str(said or (body.get("message") if isinstance(body, dict) else "") or "")


async def _beginning(answer: httpx.Response) -> bytes:
    """As much of an error's body as anybody would read."""
    body = b""
    async for piece in answer.aiter_bytes():
        body += piece
        if len(body) > 16 * 1024:
            break
    return body[: 16 * 1024]


def _error_type(status: int) -> str:
    """The names that Dify's error branches show."""
    if status in (401, 403):
        return "InvokeAuthorizationError"
    if status == 429:
        return "InvokeRateLimitError"
    return "InvokeServerUnavailableError" if status >= 500 else "InvokeBadRequestError"
