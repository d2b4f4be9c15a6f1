"""ALLM's errors as tagged JSON. It has no wire form of its own for them: this is its structs, with tuples as lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from app.api.allm.shapes import ADAPTER_ERROR, VALIDATION_ERROR, AllmError, AllmErrorData
from app.errors import (
    AtelierError,
    Forbidden,
    InvalidParam,
    RunFailed,
    RunOverdue,
    RunStopped,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)

FieldError = Sequence[Any]
"""(a field or the path to it, a word)."""


class Undecodable(AtelierError):
    """The body is no request in ALLM's JSON. Send what ALLM.Serializer.to_json! gives."""

    code = "invalid_request"
    status = 400
    where = "POST /v1/allm/image"

    def __init__(self, error: FieldError, message: str = "invalid JSON for ALLM.Serializer.from_json/2") -> None:
        super().__init__(message)
        self.errors = [error]


class InvalidRequest(AtelierError):
    """The request breaks rules of ALLM's; all of them are listed."""

    code = "invalid_image_request"
    status = 422
    where = "POST /v1/allm/image"

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__(f"validation failed: {self.code} ({len(errors)} error(s))")
        self.errors = list(errors)


class Unsupported(InvalidParam):
    """The request is right, but asks for what no checkpoint can do."""

    code = "unsupported_feature"


class PromptTooLong(InvalidParam):
    """The prompt is longer than any that is read."""

    code = "context_length_exceeded"


_REASONS: tuple[tuple[type[AtelierError], str], ...] = (
    (Unauthorized, "authentication_failed"),
    (Forbidden, "authentication_failed"),
    (TooManyRequests, "rate_limited"),
    (Unsupported, Unsupported.code),
    (PromptTooLong, PromptTooLong.code),
    (RunOverdue, "timeout"),
    (RunStopped, "unknown"),
    (RunFailed, "unknown"),
    (Unavailable, "provider_unavailable"),
)


def render_error(error: AtelierError) -> Response:
    body = msgspec.json.encode(tagged_error(error))
    return Response(body, error.status, dict(error.headers), media_type="application/json; charset=utf-8")


def tagged_error(error: AtelierError) -> AllmError:
    """As ALLM.Error.ValidationError where the request is wrong in itself, else as ALLM.Error.ImageAdapterError."""
    if isinstance(error, Undecodable | InvalidRequest):
        errors = [list(each) for each in error.errors]
        wrong = AllmErrorData(reason=error.code, message=error.message, errors=errors, cause=None, metadata={})
        return AllmError(VALIDATION_ERROR, wrong)
    wait_s = error.headers.get("retry-after")
    told = AllmErrorData(
        reason=reason_of(error),
        message=error.message,
        provider=None,
        status=error.status,
        retry_after_ms=int(wait_s) * 1000 if wait_s else None,
        cause=None,
        metadata={"code": error.code} | ({"param": error.params} if error.params else {}),
    )
    return AllmError(ADAPTER_ERROR, told)


def reason_of(error: AtelierError) -> str:
    """One of the twelve that ALLM knows."""
    named = next((reason for kind, reason in _REASONS if isinstance(error, kind)), "")
    return named or ("invalid_request" if error.status < 500 else "provider_unavailable")
