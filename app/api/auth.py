"""Bearer tokens: the texts of the contract, one line each."""

from __future__ import annotations

from starlette.requests import Request

from app.domain.request import Caller
from app.errors import Unauthorized
from app.runs.publications import Publications


async def authenticate(request: Request, publications: Publications) -> Caller:
    """Whom the request's key stands for. Raises Unauthorized."""
    header = request.headers.get("authorization", "")
    scheme, space, token = header.partition(" ")
    if not space:
        raise Unauthorized("Authorization header must be provided and start with 'Bearer'")
    if scheme.lower() != "bearer":
        raise Unauthorized("Authorization scheme must be 'Bearer'")
    return await publications.caller(token.strip())
