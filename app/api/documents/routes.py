"""`/openapi.json` and `/docs`: what this server can be asked for, for programs and for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from app.api.answer import Answer
from app.api.documents.openapi import openapi
from app.api.documents.page import page
from app.api.operation import Described, OpenOperation


def document_operations(operations: Sequence[Described]) -> list[OpenOperation]:
    """The operations that describe the others, and themselves. The document is made when it is first asked for."""

    @cache
    def document() -> bytes:
        return msgspec.json.encode(described())

    @cache
    def html() -> str:
        return page(described())

    def described() -> dict[str, Any]:
        return openapi([*operations, *own], version("atelier"))

    own = _operations(document, html)
    return own


def _operations(document: Callable[[], bytes], html: Callable[[], str]) -> list[OpenOperation]:
    async def openapi_json(request: Request) -> Answer:
        return Answer(document())

    async def docs(request: Request) -> Response:
        # Nothing comes from elsewhere: the page works without the internet.
        headers = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return Response(html(), media_type="text/html", headers=headers)

    return [
        OpenOperation(
            method="GET",
            path="/openapi.json",
            handler=openapi_json,
            summary="Reading this document",
            description="The OpenAPI document, version 3.1.",
            tag="Server",
            answers={200: dict[str, Any]},
        ),
        OpenOperation(
            method="GET",
            path="/docs",
            handler=docs,
            summary="Reading this page",
            description="The same document as a page.",
            tag="Server",
            answers={200: "text/html"},
        ),
    ]
