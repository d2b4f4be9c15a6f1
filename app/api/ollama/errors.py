"""Ollama's errors: a text, and three other shapes where its handlers for other clients have them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from starlette.responses import Response

from app.api.dialects import UnknownPath
from app.errors import AtelierError, BadRequest, MethodNotAllowed, NotFound, RunStopped, TooManyRequests
from app.runs.models import ModelNotFound

JSON = "application/json; charset=utf-8"


class OllamaError(msgspec.Struct):
    """What is wrong."""

    error: str


class EarlyMessage(msgspec.Struct):
    message: str


class EarlyOllamaError(msgspec.Struct):
    """The same, as its first handler for pictures told it."""

    error: EarlyMessage


class CompatibleErrorBody(msgspec.Struct):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class CompatibleError(msgspec.Struct):
    """The same for OpenAI's clients, as Ollama tells them."""

    error: CompatibleErrorBody


class Canceled(AtelierError):
    """Somebody stopped the run before it had an answer. Ask again for another one."""

    code = "run_stopped"
    status = 499


class Busy(AtelierError):
    """A limit of the app, the key or the queue is reached. Ask again after Retry-After."""

    code = "too_many_requests"
    status = 503


_CANCELED = "request canceled"
_BUSY = "server busy, please try again.  maximum pending requests exceeded"


def told(error: AtelierError) -> tuple[int, str]:
    """The status and the text that Ollama has for an error."""
    if isinstance(error, RunStopped):
        return Canceled.status, _CANCELED
    if isinstance(error, TooManyRequests):
        return Busy.status, _BUSY
    if isinstance(error, ModelNotFound):
        return error.status, f"model '{error.name}' not found"
    return error.status, error.message


def error_text(error: AtelierError) -> bytes:
    """As JSON, in ASCII, as all of its texts."""
    return json.dumps({"error": told(error)[1]}, separators=(",", ":")).encode()


def render_error(error: AtelierError) -> Response:
    """Below `/api` and on Ollama's own port. What is no place of its own Ollama tells without JSON."""
    if isinstance(error, UnknownPath):
        return Response("404 page not found", 404, media_type="text/plain")
    if isinstance(error, MethodNotAllowed):
        return Response("405 method not allowed", 405, dict(error.headers), media_type="text/plain")
    return Response(error_text(error), told(error)[0], dict(error.headers), media_type=JSON)


def render_early_error(error: AtelierError) -> Response:
    """Below `/ollama/v1`."""
    status, text = told(error)
    return _json({"error": {"message": text}}, status, error)


def render_compatible_error(error: AtelierError) -> Response:
    """At the paths below `/v1` that Ollama has for language models."""
    status, text = told(error)
    kind = {400: "invalid_request_error", 404: "not_found_error"}.get(status, "api_error")
    return _json({"error": {"message": text, "type": kind, "param": None, "code": None}}, status, error)


def _json(body: Any, status: int, error: AtelierError) -> Response:
    return Response(json.dumps(body, separators=(",", ":")), status, dict(error.headers), media_type=JSON)


def model_not_found(name: str) -> NotFound:
    """As most of its handlers say it."""
    return NotFound(f"model '{name}' not found", params="model")


def model_required() -> BadRequest:
    return BadRequest("model is required")
