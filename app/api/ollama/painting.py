"""Pictures by `/api/generate`: as one object, or as lines of how far they are and the picture at last."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from starlette.requests import Request
from starlette.types import ASGIApp

from app.api.answer import Answer
from app.api.files import FileReader
from app.api.ollama import wire
from app.api.ollama.errors import error_text, model_not_found
from app.api.ollama.go_json import read_body
from app.api.ollama.shapes import OllamaGenerated, OllamaGenerateRequest
from app.api.ollama.wire import Generation, Lines
from app.api.pictures.answers import LateAnswer, PicturesAnswer, Piece, Places, written
from app.api.pictures.asked import GivenPicture
from app.api.pictures.given import longest_body, taken_in
from app.api.pictures.runs import Asked, Made, PictureRuns, check_success
from app.api.run_headers import RunHeaders
from app.api.sse import EventStreams, broken_off
from app.domain.event import Tick
from app.domain.request import Caller
from app.domain.run import Run
from app.errors import AtelierError, BadRequest
from app.runs.models import Model, ModelNotFound
from app.settings import Settings

NDJSON = "application/x-ndjson"

_MOST_IMAGES = 16  # one to change, the others references


class Painting:
    """The handler of `/api/generate`. The run goes on when its client leaves."""

    def __init__(self, runs: PictureRuns, reader: FileReader, streams: EventStreams, settings: Settings) -> None:
        self._runs = runs
        self._reader = reader
        self._streams = streams
        self._longest = longest_body(settings)

    async def generate(self, request: Request, caller: Caller) -> ASGIApp:
        """In the order in which Ollama looks at what it was sent."""
        headers = RunHeaders.of(request.scope["headers"])
        body = await read_body(request, OllamaGenerateRequest, self._longest)
        asked = wire.read_generation(body)
        model = await self.find(caller, asked.model)
        if not asked.unloads:
            wire.check_size(asked)
        if not body.prompt:
            told = wire.loaded(asked.model, "unload" if asked.unloads else "load")
            return await self.keep(model, told, asked.keep_alive_s, headers, caller)
        return await self._paint(asked, model, headers, caller)

    async def find(self, caller: Caller, name: str) -> Model:
        """The model of that name. Raises NotFound in Ollama's words."""
        if not name.strip():
            raise model_not_found(name)
        try:
            return await self._runs.models.find(caller, name)
        except ModelNotFound:
            raise model_not_found(name) from None

    async def keep(
        self, model: Model, told: wire.Told, keep_alive_s: float | None, headers: RunHeaders, caller: Caller
    ) -> ASGIApp:
        """Loads the model, or unloads it with 0. `told` is the answer when that is done, one object in any case."""
        asked = await self._runs.submit(wire.load_request(model, keep_alive_s, headers, caller))

        async def answer(run: Run) -> ASGIApp:
            check_success(run)
            return Answer(wire.as_json(told), asked.headers)

        return self._runs.late(asked, answer)

    async def _paint(self, asked: Generation, model: Model, headers: RunHeaders, caller: Caller) -> ASGIApp:
        given = await self._given(asked)
        accepted = await self._runs.submit(wire.picture_request(asked, model, given, headers, caller))
        if asked.streams:
            return self._streamed(accepted, caller, asked.model)

        async def answer(run: Run) -> ASGIApp:
            pieces = picture_line(asked.model, await self._runs.made_in(caller, run))
            return PicturesAnswer(pieces, self._reader, accepted.headers)

        return self._runs.late(accepted, answer)

    async def _given(self, asked: Generation) -> dict[str, tuple[GivenPicture, ...]]:
        """The pictures of the request by the document's variables. Raises BadRequest, FileTooLarge."""
        images = [image for image in asked.body.images if image]
        if len(images) > _MOST_IMAGES:
            raise BadRequest(f"too many input images, maximum is {_MOST_IMAGES}")
        mask = wire.read_mask(asked.options)
        if not images:
            if mask:
                raise BadRequest('option "mask" needs a picture in images')
            return {}
        taken = [await taken_in(image, self._runs.limits) for image in images]
        given: dict[str, tuple[GivenPicture, ...]] = {"image": (taken[0],)}
        if taken[1:]:
            given["reference"] = tuple(taken[1:])
        if mask:
            given["mask"] = (await taken_in(mask, self._runs.limits),)
        return given

    def _streamed(self, accepted: Asked, caller: Caller, model: str) -> ASGIApp:
        """Nothing is sent before the first line: until then whatever goes wrong has a status of its own."""
        lines = self._lines(accepted, caller, model)

        async def begin() -> ASGIApp:
            first = await anext(lines)
            return self._streams.stream(_continued(first, lines), accepted.headers, NDJSON.encode())

        return LateAnswer(begin, lambda answered: None, accepted.headers)

    async def _lines(self, accepted: Asked, caller: Caller, model: str) -> AsyncGenerator[bytes, None]:
        """Raises what is wrong before the first line; afterwards that is the last line."""
        lines, run, has_begun = Lines(model), accepted.run, False
        try:
            async for news in self._runs.follow(accepted):
                if isinstance(news, Tick) and (told := lines.upto(news.step, news.steps)):
                    has_begun = True
                    yield told
                elif isinstance(news, Run):
                    run = news
            made = await self._runs.made_in(caller, run)
            rest = lines.rest(made.steps)
            picture = written([*picture_line(model, made), b"\n"], self._reader)
            begun = await anext(picture)
        except Exception as failure:
            if not has_begun:
                raise
            error = failure if isinstance(failure, AtelierError) else broken_off(accepted.run.id)
            yield error_text(error) + b"\n"
            return
        yield rest + begun
        async for piece in picture:
            yield piece


async def _continued(first: bytes, rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    yield first
    async for line in rest:
        yield line


def picture_line(model: str, made: Made) -> list[Piece]:
    """The object with the picture, in pieces."""
    places = Places()
    told: OllamaGenerated = wire.generated(model, made, places.of(made.pictures[0]))
    return places.cut(wire.as_json(told))
