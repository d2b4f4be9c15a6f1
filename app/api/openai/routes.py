"""OpenAI's verbs for pictures. A handler is: parse, one service call, render."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import ExitStack
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp

from app.api.answer import Answer, json_answer
from app.api.body import read_object
from app.api.files import FileReader
from app.api.openai import wire
from app.api.openai.asked import Asker, Wanted, read_edit, read_generation, read_variation
from app.api.openai.errors import OpenAIError
from app.api.openai.fields import Fields
from app.api.openai.forms import read_form
from app.api.openai.given import Given, read_images
from app.api.openai.profiles import profile_of
from app.api.openai.shapes import (
    EditBody,
    EditForm,
    GenerationBody,
    Images,
    ModelList,
    ModelObject,
    VariationForm,
)
from app.api.operation import EVENT_STREAM, Operation
from app.api.pictures.answers import PicturesAnswer, Places, written
from app.api.pictures.given import longest_body
from app.api.pictures.runs import REFUSALS, Asked, PictureRuns, made_by
from app.api.pictures.urls import PictureUrls
from app.api.run_headers import PictureHeaders, RunHeaders
from app.api.sse import EventStreams, broken_off
from app.domain.event import QueuePosition, Tick
from app.domain.request import Caller, Scope
from app.domain.run import Run
from app.errors import AtelierError, FileNotFound, FileTooLarge, UnsupportedMediaType
from app.runs.models import ModelNotFound
from app.settings import Settings

_FORM = "multipart/form-data"
_operation = partial(Operation, tag="OpenAI", error=OpenAIError)


class OpenAIApi:
    """OpenAI's operations below `/v1`."""

    def __init__(
        self, runs: PictureRuns, reader: FileReader, urls: PictureUrls, streams: EventStreams, settings: Settings
    ) -> None:
        self._runs = runs
        self._reader = reader
        self._urls = urls
        self._streams = streams
        self._settings = settings

    def operations(self) -> list[Operation]:
        return [*self._painting(), *self._models()]

    def _painting(self) -> list[Operation]:
        paints = partial(_operation, method="POST", scope=Scope.RUN, headers=PictureHeaders)
        return [
            paints(
                path="/v1/images/generations",
                handler=self._generate,
                summary="Painting pictures, as OpenAI's API has it",
                body=GenerationBody,
                answers={200: (Images, EVENT_STREAM)},
                raises=REFUSALS,
            ),
            paints(
                path="/v1/images/edits",
                handler=self._edit,
                summary="Changing pictures, as OpenAI's API has it",
                description="A form, or JSON.",
                body=EditBody,
                form=EditForm,
                answers={200: (Images, EVENT_STREAM)},
                raises=(*REFUSALS, FileTooLarge, FileNotFound),
            ),
            paints(
                path="/v1/images/variations",
                handler=self._vary,
                summary="Painting a picture anew, as OpenAI's API has it",
                form=VariationForm,
                answers={200: Images},
                raises=(*REFUSALS, FileTooLarge, UnsupportedMediaType),
            ),
        ]

    def _models(self) -> list[Operation]:
        reads = partial(_operation, method="GET", scope=Scope.READ)
        return [
            reads(
                path="/v1/models",
                handler=self._list_models,
                summary="Listing models, as OpenAI's API has it",
                answers={200: ModelList},
            ),
            reads(
                path="/v1/models/{model:path}",
                handler=self._model,
                summary="Reading a model, as OpenAI's API has it",
                answers={200: ModelObject},
                raises=(ModelNotFound,),
            ),
        ]

    async def _generate(self, request: Request, caller: Caller) -> ASGIApp:
        body = await read_object(request, self._settings.max_body_bytes)
        return await self._answer(request, read_generation(Fields(body), _asker(request, caller)))

    async def _edit(self, request: Request, caller: Caller) -> ASGIApp:
        with ExitStack() as files:
            if _is_form(request):
                form = await read_form(request, self._runs.limits, files)
                fields, given = Fields(form.fields, is_form=True), await Given.of(form.images, form.mask)
                fields.refuse({"moderation"})
            else:
                body = await read_object(request, longest_body(self._settings))
                given = await read_images(body, self._runs.limits)
                plain = {name: value for name, value in body.items() if name not in ("image", "images", "mask")}
                fields = Fields(plain)
            return await self._answer(request, read_edit(fields, given, _asker(request, caller)))

    async def _vary(self, request: Request, caller: Caller) -> ASGIApp:
        if not _is_form(request):
            raise UnsupportedMediaType(f"Variations are asked for with a form: its Content-Type is '{_FORM}'.")
        with ExitStack() as files:
            form = await read_form(request, self._runs.limits, files)
            fields = Fields(form.fields | ({"mask": "a file"} if form.mask else {}), is_form=True)
            given = await Given.of(form.images, None)
            return await self._answer(request, read_variation(fields, given, _asker(request, caller)))

    async def _answer(self, request: Request, wanted: Wanted) -> ASGIApp:
        asked = await self._runs.submit(wanted.request)
        if wanted.look.streams:
            return self._streams.stream(self._frames(asked, wanted), asked.headers)

        async def answer(run: Run) -> ASGIApp:
            made, places = made_by(run), Places()
            shown = [self._urls.of(request, each) if wanted.look.urls else places.of(each) for each in made]
            body = msgspec.json.encode(wire.images(wanted.look, asked.model.name, made, shown))
            if wanted.look.urls:
                return Answer(body, asked.headers)
            return PicturesAnswer(places.cut(body), self._reader, asked.headers)

        return self._runs.late(asked, answer)

    async def _frames(self, asked: Asked, wanted: Wanted) -> AsyncGenerator[bytes, None]:
        """Previews, as many as were asked for, progress as comments, an event for each picture, or an error."""
        look, partials = wanted.look, wire.Partials(wanted.look)
        try:
            async for news in self._runs.follow(asked):
                if isinstance(news, Run):
                    for made in made_by(news):
                        async for part in written(wire.completed(look, asked.model.name, made), self._reader):
                            yield part
                elif isinstance(news, Tick):
                    yield wire.comment(news) + partials.frame(news)
                else:
                    yield wire.comment(news) if isinstance(news, QueuePosition) else wire.PING
        except AtelierError as error:
            yield wire.error_frame(error)
        except Exception:
            yield wire.error_frame(broken_off(asked.run.id))

    async def _list_models(self, request: Request, caller: Caller) -> ASGIApp:
        return json_answer(ModelList([wire.model_object(each) for each in await self._runs.models.list(caller)]))

    async def _model(self, request: Request, caller: Caller) -> ASGIApp:
        name = request.path_params["model"]
        if not name:  # elsewhere that is the default
            raise ModelNotFound(name)
        try:
            model = await self._runs.models.find(caller, name)
        except ModelNotFound:
            if not profile_of(name).is_openais:
                raise
            model = await self._runs.models.find(caller, "")
        return json_answer(wire.model_object(model, name))


def _asker(request: Request, caller: Caller) -> Asker:
    return Asker(caller, RunHeaders.of(request.scope["headers"]))


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").split(";")[0].strip().lower() == _FORM
