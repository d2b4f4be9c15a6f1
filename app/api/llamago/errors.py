"""llama.go's two forms of an error: a text below `/api`, an object below `/v1`."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from app.api.llamago.shapes import LlamaErrorDetail, LlamaObjectError, LlamaTextError
from app.errors import AtelierError, InvalidParam
from app.runs.models import ModelNotFound

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    503: "unavailable_error",
}


class NotCapable(InvalidParam):
    """The model can't do that: models here paint, and neither chat nor embed."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f'"{name}" does not support {what}', params="model")


class NotStartedSo(AtelierError):
    """What llama.go's server does only if it was started for it. Nothing of the sort is done here."""

    code = "not_supported"
    status = 500
    where = "POST /llamago/props, GET /llamago/slots"

    def __init__(self, what: str, flag: str) -> None:
        super().__init__(f"This server does not support {what}. Start it with `{flag}`")


def text_error(error: AtelierError) -> LlamaTextError:
    """As the Go client reads errors, in answers and in streams."""
    return LlamaTextError(f"model '{error.name}' not found" if isinstance(error, ModelNotFound) else error.message)


def object_error(error: AtelierError) -> LlamaObjectError:
    """As llama.cpp's own server has them; `code` is the status."""
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    return LlamaObjectError(LlamaErrorDetail(error.status, text_error(error).error, kind))


def render_text_error(error: AtelierError) -> Response:
    return _answer(error, text_error(error))


def render_object_error(error: AtelierError) -> Response:
    return _answer(error, object_error(error))


def _answer(error: AtelierError, body: LlamaTextError | LlamaObjectError) -> Response:
    said, headers = msgspec.json.encode(body), dict(error.headers)
    return Response(said, error.status, headers, media_type="application/json; charset=utf-8")
