"""Ollama's errors: one text, and never a null."""

from __future__ import annotations

import json

import msgspec
from starlette.responses import Response

from app.errors import AtelierError
from app.runs.models import ModelNotFound


class OllamaError(msgspec.Struct):
    """What is wrong, as Ollama's clients read it."""

    error: str


def error_text(error: AtelierError) -> str:
    """The same error in Ollama's words."""
    return f"model '{error.name}' not found" if isinstance(error, ModelNotFound) else error.message


def render_error(error: AtelierError) -> Response:
    body = json.dumps({"error": error_text(error)})
    return Response(body, error.status, dict(error.headers), media_type="application/json; charset=utf-8")
