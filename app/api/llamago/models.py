"""What llama.go tells of itself and of its models."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from app.api.answer import Answer, json_answer
from app.api.body import read_object
from app.api.llamago import wire
from app.api.llamago.errors import NotStartedSo
from app.api.llamago.shapes import (
    LlamaAsked,
    LlamaLoadedModels,
    LlamaModels,
    LlamaObjectError,
    LlamaOpenModel,
    LlamaOpenModels,
    LlamaProps,
    LlamaShown,
    LlamaTextError,
    LlamaVersion,
)
from app.api.operation import Handler, OpenOperation, Operation, read_value
from app.domain.request import Caller, Scope
from app.runs.models import ModelNotFound, Models
from app.runs.residency import Residency
from app.settings import Settings

LLAMAGO_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"x-xss-protection", b"1; mode=block"),
    (b"referrer-policy", b"strict-origin-when-cross-origin"),
)
"""What every answer of llama.go's has."""


class LlamaModelsApi:
    """Health, properties, and models by their names."""

    def __init__(self, models: Models, residency: Residency, settings: Settings) -> None:
        self._models = models
        self._residency = residency
        self._settings = settings

    def operations(self) -> list[Operation | OpenOperation]:
        listing = (("api/models", "Listing models"), ("api/tags", "Listing models, by another name"))
        return [
            *(_open(path, summary) for path, summary in (("", "Greeting"), ("health", "Asking for a heartbeat"))),
            *(_read(path, self._tags, summary, LlamaModels) for path, summary in listing),
            _read("api/ps", self._ps, "Listing models in memory", LlamaLoadedModels),
            _read("api/version", self._version, "Reading the version", LlamaVersion),
            _read("props", self._props, "Reading properties", LlamaProps),
            _read("v1/models", self._open_models, "Listing models for OpenAI's clients", LlamaOpenModels),
            _read("v1/models/{name:path}", self._open_model, "Reading a model for OpenAI's clients", LlamaOpenModel),
            Operation(
                method="POST",
                path="/llamago/api/show",
                handler=self._show,
                scope=Scope.READ,
                summary="Reading a model",
                tag="llama.go",
                error=LlamaTextError,
                body=LlamaAsked,
                answers={200: LlamaShown},
                raises=(ModelNotFound,),
            ),
            *(
                Operation(
                    method=method,
                    path=f"/llamago/{path}",
                    handler=handler,
                    scope=Scope.READ,
                    summary=summary,
                    tag="llama.go",
                    error=LlamaTextError,
                    raises=(NotStartedSo,),
                )
                for method, path, handler, summary in (
                    ("POST", "props", self._set_props, "Changing properties, which can't be done"),
                    ("GET", "slots", self._slots, "Reading slots, which can't be done"),
                )
            ),
        ]

    async def _tags(self, request: Request, caller: Caller) -> Answer:
        return json_answer(LlamaModels(wire.listed(await self._models.list(caller))))

    async def _ps(self, request: Request, caller: Caller) -> Answer:
        return json_answer(LlamaLoadedModels(wire.loaded(await self._residency.now(), await self._models.list(caller))))

    async def _version(self, request: Request, caller: Caller) -> Answer:
        return json_answer(LlamaVersion(wire.VERSION))

    async def _props(self, request: Request, caller: Caller) -> Answer:
        default = await self._models.find(caller, "")
        return json_answer(wire.props(default.checkpoint, self._settings.gpu_lanes))

    async def _set_props(self, request: Request, caller: Caller) -> Answer:
        raise NotStartedSo("changing global properties", "--props")

    async def _slots(self, request: Request, caller: Caller) -> Answer:
        raise NotStartedSo("slots endpoint", "--slots")

    async def _show(self, request: Request, caller: Caller) -> Answer:
        asked = read_value(await read_object(request, self._settings.max_body_bytes, any_type=True), LlamaAsked)
        return json_answer(wire.shown(await self._models.find(caller, asked.model or "")))

    async def _open_models(self, request: Request, caller: Caller) -> Answer:
        models = await self._models.list(caller)
        return json_answer(LlamaOpenModels("list", [wire.open_model(each) for each in models]))

    async def _open_model(self, request: Request, caller: Caller) -> Answer:
        name = request.path_params["name"]
        return json_answer(wire.open_model(await self._models.find(caller, name), name))


def _read(path: str, handler: Handler, summary: str, shape: type) -> Operation:
    return Operation(
        method="GET",
        path=f"/llamago/{path}",
        handler=handler,
        scope=Scope.READ,
        summary=summary,
        tag="llama.go",
        error=LlamaObjectError if path.startswith("v1/") else LlamaTextError,
        answers={200: shape},
        raises=(ModelNotFound,) if "{" in path else (),
    )


def _open(path: str, summary: str) -> OpenOperation:
    return OpenOperation(
        method="GET",
        path=f"/llamago/{path}",
        handler=_health,
        summary=summary,
        tag="llama.go",
        error=LlamaTextError,
        answers={200: "text/plain"},
    )


async def _health(request: Request) -> Response:
    return PlainTextResponse("Llama.go is running")
