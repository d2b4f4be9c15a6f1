"""Dify's error envelope, for every route and every unknown path too."""

from __future__ import annotations

import json

from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.errors import AtelierError, BadRequest, MethodNotAllowed, NotFound, Unauthorized, Unavailable

_MEDIA_TYPE = "application/json; charset=utf-8"


def render_error(error: AtelierError) -> Response:
    """The one place where an error becomes a response."""
    body: dict[str, object] = {"code": error.code, "message": error.message, "status": error.status}
    if error.params is not None:
        body["params"] = error.params
    body |= error.extra
    headers = dict(error.headers)
    if isinstance(error, Unauthorized):
        headers["www-authenticate"] = 'Bearer realm="api"'
    if isinstance(error, Unavailable):
        headers["retry-after"] = "1"
    return Response(json.dumps(body), error.status, headers, media_type=_MEDIA_TYPE)


def from_framework(error: HTTPException, path: str, method: str) -> AtelierError:
    """Starlette's own errors as ours."""
    if error.status_code == 404:
        return NotFound(f"There is nothing at {path[:200]}.")
    if error.status_code == 405:
        return MethodNotAllowed(f"{method} is not allowed at {path[:200]}.")
    return BadRequest(error.detail)
