"""`/v1/images/generations` as Ollama 0.14.0 to 0.14.2 had it, for who asks for that form: mounted under `/ollama`.

OpenAI's clients can't read its events, so OpenAI's own form has the plain path.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from starlette.requests import Request
from starlette.types import ASGIApp

from app import clock
from app.api.files import FileReader
from app.api.ollama import wire
from app.api.ollama.errors import Busy, Canceled, EarlyOllamaError, error_text, model_required
from app.api.ollama.go_json import read_body
from app.api.ollama.shapes import EarlyPicture, EarlyPictures, OllamaImageGenerationRequest
from app.api.ollama.values import quoted
from app.api.operation import EVENT_STREAM, Operation
from app.api.pictures.answers import PicturesAnswer, Piece, Places, written
from app.api.pictures.asked import GENERATE, PictureRequest
from app.api.pictures.runs import Asked, Made, PictureRuns
from app.api.pictures.sizes import size_inputs
from app.api.run_headers import PictureHeaders, RunHeaders
from app.api.sse import EventStreams, broken_off
from app.domain.event import Tick
from app.domain.request import Caller, Scope
from app.domain.run import Run
from app.errors import AtelierError, BadRequest, IdempotencyConflict, NotFound, RunFailed, RunOverdue
from app.runs.models import ModelNotFound
from app.settings import Settings

_SIDE = 1024
_LARGEST = 4096


class EarlyApi:
    """The operation below `/ollama/v1`."""

    def __init__(self, runs: PictureRuns, reader: FileReader, streams: EventStreams, settings: Settings) -> None:
        self._runs = runs
        self._reader = reader
        self._streams = streams
        self._settings = settings

    def operations(self) -> list[Operation]:
        return [
            Operation(
                method="POST",
                path="/ollama/v1/images/generations",
                handler=self._generate,
                scope=Scope.RUN,
                summary="Painting a picture, as Ollama 0.14 had it",
                description="One picture. With `stream` its events are progress, done and error.",
                tag="Ollama",
                error=EarlyOllamaError,
                body=OllamaImageGenerationRequest,
                headers=PictureHeaders,
                answers={200: (EarlyPictures, EVENT_STREAM)},
                raises=(NotFound, Canceled, Busy, IdempotencyConflict, RunFailed, RunOverdue),
            )
        ]

    async def _generate(self, request: Request, caller: Caller) -> ASGIApp:
        headers = RunHeaders.of(request.scope["headers"])
        body = await read_body(request, OllamaImageGenerationRequest, self._settings.max_body_bytes)
        if not body.model:
            raise model_required()
        if not body.prompt:
            raise BadRequest("prompt is required")
        try:
            asked = await self._runs.submit(_picture(body, headers, caller))
        except ModelNotFound as error:
            raise NotFound(f"model {quoted(error.name)} not found", params="model") from None
        if body.stream:
            return self._streams.stream(self._events(asked, caller), asked.headers, b"text/event-stream")

        async def answer(run: Run) -> ASGIApp:
            return PicturesAnswer(_pictures(await self._runs.made_in(caller, run)), self._reader, asked.headers)

        return self._runs.late(asked, answer)

    async def _events(self, asked: Asked, caller: Caller) -> AsyncGenerator[bytes, None]:
        done, run = 0, asked.run
        try:
            async for news in self._runs.follow(asked):
                if isinstance(news, Tick):
                    for step in range(done + 1, news.step + 1):
                        yield _event("progress", wire.as_json({"step": step, "total": news.steps}))
                    done = max(done, news.step)
                elif isinstance(news, Run):
                    run = news
            made = await self._runs.made_in(caller, run)
            picture = written([b"event:done\ndata:", *_pictures(made), b"\n\n"], self._reader)
            begun = await anext(picture)
        except AtelierError as error:
            yield _event("error", error_text(error))
            return
        except Exception:
            yield _event("error", error_text(broken_off(asked.run.id)))
            return
        for step in range(done + 1, made.steps + 1):
            yield _event("progress", wire.as_json({"step": step, "total": made.steps}))
        yield begun
        async for piece in picture:
            yield piece


def read_size(size: str) -> tuple[int, int]:
    """Width and height, never an error: what can't be read is 1024, and so is what is larger than 4096."""
    parts = size.split("x")
    if len(parts) != 2:
        return _SIDE, _SIDE
    sides = (int(part) if part.lstrip("+-").isascii() and _is_integer(part) else 0 for part in parts)
    width, height = (side if 1 <= side <= _LARGEST else _SIDE for side in sides)
    return width, height


def _is_integer(text: str) -> bool:
    digits = text[1:] if text[:1] in ("+", "-") else text
    return digits.isdecimal() and len(digits) < 10


def _picture(body: OllamaImageGenerationRequest, headers: RunHeaders, caller: Caller) -> PictureRequest:
    return PictureRequest(
        dialect="ollama",
        document=GENERATE,
        caller=caller,
        user=wire.USER,
        model=body.model,
        inputs={"prompt": body.prompt, **size_inputs(*read_size(body.size)), "seed": -1, "n": 1, "fit_size": True},
        headers=headers,
        streams=body.stream,
    )


def _pictures(made: Made) -> list[Piece]:
    places = Places()
    told = EarlyPictures(int(clock.time()), [EarlyPicture(places.of(made.pictures[0]))])
    return places.cut(wire.as_json(told))


def _event(name: str, told: bytes) -> bytes:
    return b"event:%s\ndata:%s\n\n" % (name.encode(), told)
