"""OpenAI's error object: four keys, always; and the errors that only its clients know by their code."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from app.errors import AtelierError, Forbidden, InvalidParam, Unauthorized
from app.runs.models import ModelNotFound


class UnknownParameter(InvalidParam):
    """The request has a field that means nothing here. Leave it out."""

    code = "unknown_parameter"

    def __init__(self, name: str) -> None:
        super().__init__(f"Unknown parameter: '{name}'.", params=name)


class InvalidValue(InvalidParam):
    """A field has a value that is none of those that it takes."""

    code = "invalid_value"


class ErrorBody(msgspec.Struct):
    """What is wrong, as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(msgspec.Struct):
    error: ErrorBody


_TYPES = {401: "invalid_request_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES: dict[type[AtelierError], str] = {Unauthorized: "invalid_api_key", Forbidden: "insufficient_permissions"}


def error_body(error: AtelierError) -> OpenAIError:
    """The same error in OpenAI's four fields."""
    if isinstance(error, ModelNotFound):
        said = f"The model `{error.name}` does not exist or you do not have access to it."
        return OpenAIError(ErrorBody(said, "invalid_request_error", "model", "model_not_found"))
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    return OpenAIError(ErrorBody(error.message, kind, error.params, _CODES.get(type(error), error.code)))


def render_error(error: AtelierError) -> Response:
    """As an answer. After some statuses OpenAI's clients ask again by themselves: they are told where it is no use."""
    headers = dict(error.headers)
    if error.status in (408, 409, 429) or error.status >= 500:
        headers["x-should-retry"] = "true" if error.retryable else "false"
    body = msgspec.json.encode(error_body(error))
    return Response(body, error.status, headers, media_type="application/json; charset=utf-8")
