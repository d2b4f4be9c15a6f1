"""llama.go's verbs, for a model that paints. A handler is: parse, one service call, render."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp

from app.api.body import read_object
from app.api.files import FileReader
from app.api.llamago import framing, wire
from app.api.llamago.errors import NotCapable, object_error, text_error
from app.api.llamago.framing import Framing
from app.api.llamago.shapes import (
    LlamaAsked,
    LlamaGenerate,
    LlamaObjectError,
    LlamaReply,
    LlamaTextError,
)
from app.api.operation import EVENT_STREAM, Operation, read_value
from app.api.pictures.answers import PicturesAnswer, Piece, Places, written
from app.api.pictures.given import longest_body
from app.api.pictures.runs import REFUSALS, Asked, PictureRuns, made_by
from app.api.pictures.urls import PictureUrls
from app.api.run_headers import PictureHeaders, RunHeaders
from app.api.sse import EventStreams, broken_off
from app.domain.event import Tick
from app.domain.request import Caller, Scope
from app.domain.run import Run
from app.errors import AtelierError, FileTooLarge
from app.runs.models import ModelNotFound
from app.settings import Settings


class GenerateApi:
    """`generate`, under both of its names, and what a model that paints can't do."""

    def __init__(
        self, runs: PictureRuns, reader: FileReader, urls: PictureUrls, streams: EventStreams, settings: Settings
    ) -> None:
        self._runs = runs
        self._reader = reader
        self._urls = urls
        self._streams = streams
        self._most_bytes = longest_body(settings)

    def operations(self) -> list[Operation]:
        generate = (("/llamago/api/generate", LlamaTextError), ("/llamago/v1/completions", LlamaObjectError))
        return [
            *(self._generation(path, error) for path, error in generate),
            *(
                Operation(
                    method="POST",
                    path=f"/llamago{path}",
                    handler=self._chat if "chat" in path else self._embed,
                    scope=Scope.RUN,
                    summary="Asking for what a model that paints can't do",
                    tag="llama.go",
                    error=LlamaObjectError if path.startswith("/v1/") else LlamaTextError,
                    body=LlamaAsked,
                    raises=(ModelNotFound,),
                )
                for path in ("/api/chat", "/v1/chat/completions", "/api/embed", "/api/embeddings", "/v1/embeddings")
            ),
        ]

    def _generation(self, path: str, error: type) -> Operation:
        return Operation(
            method="POST",
            path=path,
            handler=self._generate,
            scope=Scope.RUN,
            summary="Painting, as llama.go generates text",
            description="`Accept: application/x-ndjson` gets lines of JSON, everybody else a stream of events.",
            tag="llama.go",
            error=error,
            headers=PictureHeaders,
            body=LlamaGenerate,
            answers={200: (LlamaReply, framing.NDJSON, EVENT_STREAM)},
            raises=(*REFUSALS, FileTooLarge),
        )

    async def _generate(self, request: Request, caller: Caller) -> ASGIApp:
        headers = RunHeaders.of(request.scope["headers"])
        body = await read_object(request, self._most_bytes, any_type=True)
        wanted = await wire.read_generate(body, self._runs.limits, headers, caller)
        asked = await self._runs.submit(wanted)
        form = framing.framing_of(request.headers.get("accept", ""))
        if wanted.streams:
            frames = self._frames(request, asked, form)
            return self._streams.stream(frames, asked.headers, framing.media_type(form))

        async def answer(run: Run) -> ASGIApp:
            return PicturesAnswer(self._whole(request, asked, run, form), self._reader, asked.headers)

        return self._runs.late(asked, answer)

    def _whole(self, request: Request, asked: Asked, run: Run, form: Framing) -> list[Piece]:
        """With the pictures in it, unless it is for a client that could not read so long a line."""
        made, places = made_by(run), Places()
        urls = [self._urls.of(request, each) for each in made]
        reply = wire.whole_reply(run, asked.model, urls, [places.of(each) for each in made])
        pieces = places.cut(msgspec.json.encode(reply))
        if form == "events" or framing.fits(pieces):
            return pieces
        return [msgspec.json.encode(wire.whole_reply(run, asked.model, urls, ()))]

    async def _frames(self, request: Request, asked: Asked, form: Framing) -> AsyncGenerator[bytes, None]:
        """Progress, then each picture, then the end; or the error that came in its place."""
        try:
            async for pieces in self._pieces(request, asked, form):
                async for part in written(framing.framed(pieces, form), self._reader):
                    yield part
        except AtelierError as error:
            yield _told(request, error, form)
        except Exception:
            yield _told(request, broken_off(asked.run.id), form)
        if last := framing.done(form):
            yield last

    async def _pieces(self, request: Request, asked: Asked, form: Framing) -> AsyncIterator[list[Piece]]:
        run, done, total = asked.run, 0, 0
        async for news in self._runs.follow(asked):
            if isinstance(news, Run):
                run = news
            elif isinstance(news, Tick):
                done, total = news.step, news.steps
            if not isinstance(news, Run):  # in silence, too, so that nobody takes the connection for dead
                yield [msgspec.json.encode(wire.progress_piece(run, asked.model, done, total))]
        made = made_by(run)
        for index, each in enumerate(made):
            url, places = self._urls.of(request, each), Places()
            piece = msgspec.json.encode(wire.picture_piece(run, asked.model, url, index, places.of(each)))
            pieces = places.cut(piece)
            if form == "lines" and not framing.fits(pieces):
                pieces = [msgspec.json.encode(wire.picture_piece(run, asked.model, url, index, ""))]
            yield pieces
        yield [msgspec.json.encode(wire.last_piece(run, asked.model, len(made)))]

    async def _chat(self, request: Request, caller: Caller) -> ASGIApp:
        raise await self._refusal(request, caller, "chat")

    async def _embed(self, request: Request, caller: Caller) -> ASGIApp:
        raise await self._refusal(request, caller, "embeddings")

    async def _refusal(self, request: Request, caller: Caller, what: str) -> NotCapable:
        asked = read_value(await read_object(request, self._most_bytes, any_type=True), LlamaAsked)
        return NotCapable((await self._runs.models.find(caller, asked.model or "")).name, what)


def _told(request: Request, error: AtelierError, form: Framing) -> bytes:
    """An error as a piece of a stream."""
    is_text = request.url.path.startswith("/llamago/api/")
    said = msgspec.json.encode(text_error(error) if is_text else object_error(error))
    return b"".join(framing.framed([said], form))  # type: ignore[arg-type] # all are bytes
