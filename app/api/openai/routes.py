"""OpenAI's verbs for pictures. A handler is: parse, one service call, render."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp

from app.api.body import read_object
from app.api.files import FileReader
from app.api.openai import wire
from app.api.openai.errors import OpenAIError
from app.api.operation import Operation
from app.api.pictures.answers import PicturesAnswer, Places
from app.api.pictures.runs import PictureRuns
from app.api.run_headers import RunHeaders
from app.domain.request import Caller, Scope
from app.domain.run import Run
from app.errors import (
    BodyTooLarge,
    IdempotencyConflict,
    InvalidParam,
    RunFailed,
    RunOverdue,
    RunStopped,
    TooManyRequests,
    UnsupportedMediaType,
)
from app.runs.models import ModelNotFound
from app.settings import Settings

_REFUSALS = (
    *(InvalidParam, BodyTooLarge, UnsupportedMediaType, ModelNotFound, IdempotencyConflict, TooManyRequests),
    *(RunFailed, RunStopped, RunOverdue),
)


class OpenAIApi:
    """OpenAI's operations below `/v1`."""

    def __init__(self, runs: PictureRuns, reader: FileReader, settings: Settings) -> None:
        self._runs = runs
        self._reader = reader
        self._settings = settings

    def operations(self) -> list[Operation]:
        return [
            Operation(
                method="POST",
                path="/v1/images/generations",
                handler=self._generate,
                scope=Scope.RUN,
                summary="Painting pictures, as OpenAI's API has it",
                tag="OpenAI",
                error=OpenAIError,
                answers={200: dict[str, Any]},
                raises=_REFUSALS,
            )
        ]

    async def _generate(self, request: Request, caller: Caller) -> ASGIApp:
        headers = RunHeaders.of(request.scope["headers"])
        body = await read_object(request, self._settings.max_body_bytes)
        asked = await self._runs.submit(wire.read_generation(body, headers, caller))

        async def answer(run: Run) -> ASGIApp:
            made, places = await self._runs.made(caller, run), Places()
            body = wire.images_response(made, [places.of(each) for each in made])
            return PicturesAnswer(places.cut(msgspec.json.encode(body)), self._reader, asked.headers)

        return self._runs.late(asked, answer)
