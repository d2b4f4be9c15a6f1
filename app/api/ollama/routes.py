"""Ollama's verbs for models and pictures, below `/api`. A handler is: parse, one service call, render."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

from app.api.answer import Answer
from app.api.ollama import wire
from app.api.ollama.errors import Busy, Canceled, OllamaError, model_not_found, model_required
from app.api.ollama.go_json import read_body
from app.api.ollama.looks import Looks, tagged
from app.api.ollama.painting import NDJSON, Painting
from app.api.ollama.shapes import (
    OllamaCloud,
    OllamaGenerated,
    OllamaGenerateRequest,
    OllamaLoadedModels,
    OllamaModels,
    OllamaShown,
    OllamaShowRequest,
    OllamaStatus,
    OllamaVersion,
)
from app.api.operation import Handler, OpenOperation, Operation
from app.api.run_headers import PictureHeaders
from app.domain.request import Caller, Scope
from app.errors import FileTooLarge, IdempotencyConflict, NotFound, RunFailed, RunOverdue
from app.runs.models import ModelNotFound, Models
from app.runs.residency import Residency
from app.settings import Settings

TAG = "Ollama"


class OllamaApi:
    """What clients ask of a server that has models: what there is, what is in memory, and pictures."""

    def __init__(
        self, painting: Painting, models: Models, residency: Residency, looks: Looks, settings: Settings
    ) -> None:
        self._painting = painting
        self._models = models
        self._residency = residency
        self._looks = looks
        self._settings = settings

    def operations(self) -> list[Operation | OpenOperation]:
        return [
            _open("/", _greet, "Greeting Ollama's clients", "text/plain"),
            _open("/api/version", _version, "Reading Ollama's version", OllamaVersion),
            _read("/api/status", self._status, "Asking whether there is a cloud", OllamaStatus),
            _read("/api/tags", self._tags, "Listing models", OllamaModels),
            _read("/api/ps", self._ps, "Listing models in memory", OllamaLoadedModels),
            Operation(
                method="POST",
                path="/api/show",
                handler=self._show,
                scope=Scope.READ,
                summary="Reading a model",
                tag=TAG,
                error=OllamaError,
                body=OllamaShowRequest,
                answers={200: OllamaShown},
                raises=(NotFound,),
            ),
            Operation(
                method="POST",
                path="/api/generate",
                handler=self._painting.generate,
                scope=Scope.RUN,
                summary="Painting a picture, as Ollama has it",
                description="A line for each step and one with the picture, or one answer. Without a prompt the model "
                "is loaded, or unloaded with `keep_alive` 0. Whatever becomes of the connection, the run goes on.",
                tag=TAG,
                error=OllamaError,
                body=OllamaGenerateRequest,
                headers=PictureHeaders,
                answers={200: (OllamaGenerated, NDJSON)},
                raises=(NotFound, FileTooLarge, Canceled, Busy, IdempotencyConflict, RunFailed, RunOverdue),
            ),
        ]

    async def _status(self, request: Request, caller: Caller) -> ASGIApp:
        return Answer(wire.as_json(OllamaStatus(OllamaCloud(disabled=True, source="config"))))

    async def _tags(self, request: Request, caller: Caller) -> ASGIApp:
        models = await self._models.list(caller)
        return Answer(wire.as_json(OllamaModels(await asyncio.to_thread(self._looks.installed, models))))

    async def _ps(self, request: Request, caller: Caller) -> ASGIApp:
        held, models = await self._residency.now(), await self._models.list(caller)
        return Answer(wire.as_json(OllamaLoadedModels(await asyncio.to_thread(self._looks.loaded, held, models))))

    async def _show(self, request: Request, caller: Caller) -> ASGIApp:
        asked = await read_body(request, OllamaShowRequest, self._settings.max_body_bytes)
        name = asked.model or asked.name
        if not name.strip():
            raise model_required()
        try:
            model = await self._models.find(caller, name)
        except ModelNotFound:
            raise model_not_found(tagged(name)) from None
        shown = await asyncio.to_thread(self._looks.shown, model, asked.system, verbose=asked.verbose)
        return Answer(wire.as_json(shown))


async def _greet(request: Request) -> Response:
    return PlainTextResponse("Ollama is running")


async def _version(request: Request) -> ASGIApp:
    return Answer(wire.as_json(OllamaVersion(wire.VERSION)))


def _read(path: str, handler: Handler, summary: str, shape: type) -> Operation:
    return Operation(
        method="GET",
        path=path,
        handler=handler,
        scope=Scope.READ,
        summary=summary,
        tag=TAG,
        error=OllamaError,
        answers={200: shape},
    )


def _open(
    path: str, handler: Callable[[Request], Awaitable[ASGIApp]], summary: str, shape: type | str
) -> OpenOperation:
    return OpenOperation(
        method="GET", path=path, handler=handler, summary=summary, tag=TAG, error=OllamaError, answers={200: shape}
    )
