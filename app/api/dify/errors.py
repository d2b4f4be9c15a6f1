"""The error envelope, for every route and every unknown path too: Dify's fields first, then what it does not tell."""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from app.api.dialects import UnknownPath
from app.errors import AtelierError, BadRequest, MethodNotAllowed
from app.logs import subject

_MEDIA_TYPE = "application/json; charset=utf-8"


class ErrorProblem(msgspec.Struct, kw_only=True):
    """One thing that is wrong in a workflow document."""

    message: str
    node_id: str | None
    node_title: str | None


class Error(msgspec.Struct, kw_only=True):
    """What every error answer says. Some errors tell more: `docs/errors.md`."""

    code: Annotated[str, Meta(description="the same for the same reason, for programs", examples=["invalid_param"])]
    message: Annotated[str, Meta(description="what is wrong and the way out, for people")]
    status: Annotated[int, Meta(description="the HTTP status again", examples=[400])]
    params: Annotated[str, Meta(description="the field that is wrong", examples=["user"])] | UnsetType = UNSET
    retryable: Annotated[bool, Meta(description="whether the same request may succeed a little later")]
    request_id: Annotated[str, Meta(description="as in X-Request-Id; the server's log lines carry it")]
    node_id: Annotated[str, Meta(description="the workflow's node that it concerns")] | UnsetType = UNSET
    node_title: Annotated[str, Meta(description="the node's title")] | UnsetType = UNSET
    problems: list[ErrorProblem] | UnsetType = UNSET
    limit: Annotated[int, Meta(description="with 429: how many there may be")] | UnsetType = UNSET
    current: Annotated[int, Meta(description="with 429: how many there are")] | UnsetType = UNSET


def envelope(error: AtelierError) -> dict[str, Any]:
    """What callers are told of an error. The request's id is that of whatever the log lines are about now."""
    said = Error(
        code=error.code,
        message=error.message,
        status=error.status,
        params=UNSET if error.params is None else error.params,
        retryable=error.retryable,
        request_id=subject().request,
        node_id=UNSET if error.node_id is None else error.node_id,
        node_title=UNSET if error.node_title is None else error.node_title,
    )
    return {**msgspec.to_builtins(said), **error.extra}


def render_error(error: AtelierError) -> Response:
    """The one place where an error becomes a response."""
    return Response(json.dumps(envelope(error)), error.status, dict(error.headers), media_type=_MEDIA_TYPE)


def from_framework(error: HTTPException, path: str, method: str) -> AtelierError:
    """Starlette's own errors as ours."""
    if error.status_code == 404:
        return UnknownPath(f"There is nothing at {path[:200]}.")
    if error.status_code == 405:
        allow = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
        return MethodNotAllowed(f"{method[:20]} is not allowed at {path[:200]}; allowed: {allow}.", allow=allow)
    return BadRequest(error.detail)


class CrossOrigin(CORSMiddleware):
    """Starlette's, but a preflight that it refuses gets the envelope."""

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        refusal = render_error(BadRequest(f"{bytes(response.body).decode()}: a browser may not ask this."))
        refusal.raw_headers += [pair for pair in response.raw_headers if not pair[0].startswith(b"content-")]
        return refusal
