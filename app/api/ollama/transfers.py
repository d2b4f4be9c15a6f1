"""Ollama's verbs for bringing models here and for sending them away."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.types import ASGIApp

from app.api.ollama.errors import OllamaError, model_required
from app.api.ollama.go_json import read_body
from app.api.ollama.library import OllamaProgress
from app.api.ollama.lines import Line, answered
from app.api.ollama.painting import NDJSON
from app.api.ollama.routes import TAG
from app.api.operation import Operation
from app.domain.request import Caller, Scope
from app.errors import CheckpointUnavailable, NotFound
from app.runs.models import ModelNotFound
from app.runs.pulls import Pulls
from app.runs.pushes import Pushes
from app.runs.transfers import Told
from app.settings import Settings

Stream = Annotated[bool | None, Meta(description="false: one answer at the end; else lines of how far it is")]


class OllamaPullRequest(msgspec.Struct):
    """What to pull."""

    model: Annotated[
        str, Meta(description="hf.co/owner/name[:file], owner/name, https://…", examples=["hf.co/owner/name"])
    ] = ""
    name: Annotated[str, Meta(description="the same, as it was called before")] = ""
    insecure: Annotated[bool, Meta(description="of a server that the name begins with: http")] = False
    stream: Stream = None


class OllamaPushRequest(msgspec.Struct):
    """What to push. Its name says where to: owner/name of the hub, or server/folder/name."""

    model: Annotated[str, Meta(examples=["owner/name"])] = ""
    name: Annotated[str, Meta(description="the same, as it was called before")] = ""
    to: Annotated[str, Meta(description="a URL that takes the file by PUT, where the name does not say where to")] = ""
    insecure: Annotated[bool, Meta(description="of a server that the name begins with: http")] = False
    stream: Stream = None


class OllamaTransfersApi:
    """Operations on models of other places."""

    def __init__(self, pulls: Pulls, pushes: Pushes, settings: Settings) -> None:
        self._pulls = pulls
        self._pushes = pushes
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
                body=OllamaPullRequest,
                answers={200: (OllamaProgress, NDJSON)},
                raises=(NotFound, CheckpointUnavailable),
            ),
            Operation(
                method="POST",
                path="/api/push",
                handler=self._push,
                scope=Scope.CHECKPOINTS,
                summary="Pushing a model",
                description="To Hugging Face's hub, or to a server that takes files by PUT. It goes on when its client "
                "has left.",
                tag=TAG,
                error=OllamaError,
                body=OllamaPushRequest,
                answers={200: (OllamaProgress, NDJSON)},
                raises=(ModelNotFound,),
            ),
        ]

    async def _pull(self, request: Request, caller: Caller) -> ASGIApp:
        body = await read_body(request, OllamaPullRequest, self._settings.max_body_bytes)
        told = self._pulls.pull(caller, body.model or body.name, insecure=body.insecure)
        return await answered(_lines(told), stream=body.stream is not False)

    async def _push(self, request: Request, caller: Caller) -> ASGIApp:
        body = await read_body(request, OllamaPushRequest, self._settings.max_body_bytes)
        name = body.model or body.name
        if not name.strip():
            raise model_required()
        told = self._pushes.push(caller, name, body.to, insecure=body.insecure)
        return await answered(_lines(told), stream=body.stream is not False)


async def _lines(told: AsyncGenerator[Told, None]) -> AsyncGenerator[Line, None]:
    async for each in told:
        yield msgspec.to_builtins(each)
