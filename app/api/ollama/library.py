"""Ollama's verbs for keeping models: create, copy, delete, and the blobs that models are made of."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp

from app.api.answer import NoContent
from app.api.ollama.errors import OllamaError
from app.api.ollama.go_json import read_body
from app.api.ollama.library_wire import OllamaCreateRequest, read_making
from app.api.ollama.lines import Line, answered
from app.api.ollama.painting import NDJSON
from app.api.ollama.routes import TAG
from app.api.operation import Operation
from app.checkpoints.blobs import read_digest
from app.domain.model_name import parse_name
from app.domain.request import Caller, Scope
from app.errors import (
    BadRequest,
    CheckpointUnavailable,
    FileTooLarge,
    InvalidParam,
    NotFound,
)
from app.runs.library import Library, Making
from app.runs.models import ModelNotFound, plain_name
from app.settings import Settings

_EMPTY = (b"content-length", b"0")


class OllamaProgress(msgspec.Struct, omit_defaults=True):
    """How far it is. With `stream`, which is the default, each comes on a line of its own; the last says `success`."""

    status: str
    digest: Annotated[str, Meta(description="what it is about: sha256:…")] = ""
    total: Annotated[int, Meta(description="bytes in all")] = 0
    completed: Annotated[int, Meta(description="bytes that are there")] = 0


class OllamaCopyRequest(msgspec.Struct):
    """A model, and the other name that it is to have."""

    source: str = ""
    destination: str = ""


class OllamaDeleteRequest(msgspec.Struct):
    """The model to delete."""

    model: str = ""
    name: Annotated[str, Meta(description="the same, as it was called before")] = ""


class OllamaLibraryApi:
    """Operations on presets and on blobs."""

    def __init__(self, library: Library, settings: Settings) -> None:
        self._library = library
        self._settings = settings

    def operations(self) -> list[Operation]:
        return [*self._model_operations(), *self._blob_operations()]

    def _model_operations(self) -> list[Operation]:
        return [
            Operation(
                method="POST",
                path="/api/create",
                handler=self._create,
                scope=Scope.RUN,
                summary="Making a model",
                description="Of another one with parameters (a preset), or of posted blobs (a checkpoint), which takes "
                "the scope `checkpoints`.",
                tag=TAG,
                error=OllamaError,
                body=OllamaCreateRequest,
                answers={200: (OllamaProgress, NDJSON)},
                raises=(ModelNotFound, CheckpointUnavailable),
            ),
            Operation(
                method="POST",
                path="/api/copy",
                handler=self._copy,
                scope=Scope.RUN,
                summary="Copying a model",
                description="The same model under another name, too; no file is copied.",
                tag=TAG,
                error=OllamaError,
                body=OllamaCopyRequest,
                answers={200: None},
                raises=(NotFound,),
            ),
            Operation(
                method="DELETE",
                path="/api/delete",
                handler=self._delete,
                scope=Scope.RUN,
                summary="Deleting a model",
                description="A preset, or the file of a checkpoint, which takes the scope `checkpoints`.",
                tag=TAG,
                error=OllamaError,
                body=OllamaDeleteRequest,
                answers={200: None},
                raises=(ModelNotFound,),
            ),
        ]

    def _blob_operations(self) -> list[Operation]:
        return [
            Operation(
                method="HEAD",
                path="/api/blobs/{digest}",
                handler=self._has_blob,
                scope=Scope.CHECKPOINTS,
                summary="Asking for a blob",
                tag=TAG,
                error=OllamaError,
                answers={200: "It is here."},
                raises=(InvalidParam,),
            ),
            Operation(
                method="POST",
                path="/api/blobs/{digest}",
                handler=self._post_blob,
                scope=Scope.CHECKPOINTS,
                summary="Posting a blob",
                description="The bytes of a file as the body; a model is made of it by its digest within a day.",
                tag=TAG,
                error=OllamaError,
                answers={200: "It was here already.", 201: "It is here now."},
                raises=(InvalidParam, FileTooLarge),
            ),
        ]

    async def _create(self, request: Request, caller: Caller) -> ASGIApp:
        body = await read_body(request, OllamaCreateRequest, self._settings.max_body_bytes)
        return await answered(self._created(caller, read_making(body)), stream=body.stream is not False)

    async def _created(self, caller: Caller, making: Making) -> AsyncGenerator[Line, None]:
        made = await self._library.create(caller, making)
        for sha256 in made.existing:
            yield {"status": f"using existing layer sha256:{sha256}"}
        for sha256 in made.new:
            yield {"status": f"creating new layer sha256:{sha256}"}
        yield {"status": "writing manifest"}
        yield {"status": "success"}

    async def _copy(self, request: Request, caller: Caller) -> ASGIApp:
        body = await read_body(request, OllamaCopyRequest, self._settings.max_body_bytes)
        _require_name("source", body.source)
        _require_name("destination", body.destination, of_file=False)
        try:
            await self._library.copy(caller, body.source, body.destination)
        except ModelNotFound:
            raise NotFound(f'model "{body.source}" not found') from None
        return NoContent([_EMPTY], 200)

    async def _delete(self, request: Request, caller: Caller) -> ASGIApp:
        body = await read_body(request, OllamaDeleteRequest, self._settings.max_body_bytes)
        name = body.model or body.name
        _require_name("name", name)
        await self._library.delete(caller, name)
        return NoContent([_EMPTY], 200)

    async def _has_blob(self, request: Request, caller: Caller) -> ASGIApp:
        digest = request.path_params["digest"]
        if self._library.blobs.find(read_digest(digest)) is None:
            raise NotFound(f'blob "{digest}" not found')
        return NoContent([_EMPTY], 200)

    async def _post_blob(self, request: Request, caller: Caller) -> ASGIApp:
        sha256 = read_digest(request.path_params["digest"])
        if self._library.blobs.find(sha256) is not None:
            return NoContent([_EMPTY], 200)
        announced = request.headers.get("content-length", "")
        size = int(announced) if announced.isdecimal() else None
        try:
            await self._library.blobs.receive(sha256, size, request.stream())
        except ClientDisconnect:  # nobody hears this, but it is no failure of ours that it should be logged as one
            raise BadRequest("The connection ended before the body did.") from None
        return NoContent([_EMPTY], 201)


def _require_name(field: str, name: str, *, of_file: bool = True) -> None:
    """Raises InvalidParam in Ollama's words. A checkpoint's file may be called what no other model may."""
    try:
        parse_name(name)
    except InvalidParam:
        bare = plain_name(name)
        if not of_file or not bare or "/" in bare or ":" in bare:
            raise InvalidParam(f'{field} "{name}" is invalid', params=field) from None
