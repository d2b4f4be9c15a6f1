"""Bearer tokens: the texts of the contract, one line each."""

from __future__ import annotations

from starlette.types import Scope

from app.domain.request import Caller
from app.errors import Unauthorized
from app.runs.publications import Publications


async def authenticate(scope: Scope, publications: Publications) -> Caller:
    """Whom the request's key stands for. Raises Unauthorized."""
    scheme, space, token = _authorization(scope).partition(" ")
    if not space:
        raise Unauthorized("Authorization header must be provided and start with 'Bearer'")
    if scheme.lower() != "bearer":
        raise Unauthorized("Authorization scheme must be 'Bearer'")
    return await publications.caller(token.strip())


def _authorization(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            text: str = value.decode("latin-1")
            return text
    return ""
