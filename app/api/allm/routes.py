"""ALLM's requests over HTTP. A handler is: parse, one service call, render."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp

from app.api.allm import wire
from app.api.allm.decode import decode
from app.api.allm.errors import InvalidRequest, Undecodable
from app.api.allm.shapes import AllmBody, AllmError, AllmResponse
from app.api.allm.validate import validate
from app.api.body import read_bytes
from app.api.files import FileReader
from app.api.operation import Operation
from app.api.pictures.answers import PicturesAnswer, Places
from app.api.pictures.given import longest_body
from app.api.pictures.runs import REFUSALS, PictureRuns, made_by
from app.api.pictures.urls import PictureUrls
from app.api.run_headers import PictureHeaders, RunHeaders
from app.domain.request import Caller, Scope
from app.domain.run import Run
from app.errors import FileTooLarge
from app.logs import subject
from app.settings import Settings


class AllmApi:
    """`POST /v1/allm/image`."""

    def __init__(self, runs: PictureRuns, reader: FileReader, urls: PictureUrls, settings: Settings) -> None:
        self._runs = runs
        self._reader = reader
        self._urls = urls
        self._most_bytes = longest_body(settings)

    def operations(self) -> list[Operation]:
        return [
            Operation(
                method="POST",
                path="/v1/allm/image",
                handler=self._image,
                scope=Scope.RUN,
                summary="Painting what ALLM asks for",
                description="What `ALLM.Serializer.to_json!` makes of an `ALLM.ImageRequest`, or its data alone.",
                tag="ALLM",
                error=AllmError,
                headers=PictureHeaders,
                body=AllmBody,
                answers={200: AllmResponse},
                raises=(*REFUSALS, Undecodable, InvalidRequest, FileTooLarge),
            )
        ]

    async def _image(self, request: Request, caller: Caller) -> ASGIApp:
        headers = RunHeaders.of(request.scope["headers"])
        wanted = decode(await read_bytes(request, self._most_bytes))
        validate(wanted)
        asked = await self._runs.submit(await wire.read_request(wanted, self._runs.limits, headers, caller))
        request_id = subject().request

        async def answer(run: Run) -> ASGIApp:
            made, places = made_by(run), Places()
            values = [self._urls.of(request, each) if is_url else places.of(each) for each in made]
            body = wire.response(wanted, run, asked.model, list(zip(made, values, strict=True)), request_id)
            return PicturesAnswer(places.cut(msgspec.json.encode(body)), self._reader, asked.headers)

        is_url = wanted.response_format == "url"
        return self._runs.late(asked, answer)
