"""Ollama's verbs for bringing models here and for sending them away."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.types import ASGIApp

from app.api.ollama.body import read_struct
from app.api.ollama.errors import OllamaError
from app.api.ollama.library import NDJSON, TAG, Progress
from app.api.ollama.lines import Line, answered
from app.api.operation import Operation
from app.domain.request import Caller, Scope
from app.errors import BadRequest, BodyTooLarge, CheckpointUnavailable, InvalidParam, NotFound, Unavailable
from app.runs.pulls import Pulls
from app.runs.transfers import Told
from app.settings import Settings


class PullBody(msgspec.Struct):
    """What to pull."""

    model: Annotated[
        str, Meta(description="hf.co/owner/name[:file], owner/name, https://…", examples=["hf.co/owner/name"])
    ] = ""
    name: Annotated[str, Meta(description="the same, as it was called before")] = ""
    insecure: Annotated[bool, Meta(description="of a server that the name begins with: http")] = False
    stream: bool = True


class OllamaTransfersApi:
    """Operations on models of other places."""

    def __init__(self, pulls: Pulls, settings: Settings) -> None:
        self._pulls = pulls
        self._settings = settings

    def operations(self) -> list[Operation]:
        return [
            Operation(
                method="POST",
                path="/api/pull",
                handler=self._pull,
                scope=Scope.CHECKPOINTS,
                summary="Pulling a model",
                description="From Hugging Face's hub or any other server. It goes on when its client has left; what "
                "broke off goes on where it was with the next pull.",
                tag=TAG,
                error=OllamaError,
                body=PullBody,
                answers={200: (Progress, NDJSON)},
                raises=(InvalidParam, BadRequest, BodyTooLarge, NotFound, CheckpointUnavailable, Unavailable),
            ),
        ]

    async def _pull(self, request: Request, caller: Caller) -> ASGIApp:
        body = await read_struct(request, PullBody, self._settings.max_body_bytes)
        told = self._pulls.pull(caller, body.model or body.name, insecure=body.insecure)
        return await answered(_lines(told), stream=body.stream)


async def _lines(told: AsyncGenerator[Told, None]) -> AsyncGenerator[Line, None]:
    async for each in told:
        yield msgspec.to_builtins(each)
