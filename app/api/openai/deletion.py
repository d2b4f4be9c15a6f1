"""Deleting a model by OpenAI's API."""

from __future__ import annotations

from typing import Literal

import msgspec
from starlette.requests import Request

from app.api.answer import Answer, json_answer
from app.api.openai.errors import OpenAIError
from app.api.operation import Operation
from app.domain.request import Caller, Scope
from app.errors import InvalidParam
from app.runs.library import Library
from app.runs.models import ModelNotFound


class ModelDeleted(msgspec.Struct):
    """The model is gone."""

    id: str
    object: Literal["model"] = "model"
    deleted: Literal[True] = True


class OpenAIDeletionApi:
    """One operation below `/v1/models`."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def operations(self) -> list[Operation]:
        return [
            Operation(
                method="DELETE",
                path="/v1/models/{model:path}",
                handler=self._delete,
                scope=Scope.RUN,
                summary="Deleting a model",
                description="A preset, or the file of a checkpoint, which takes the scope `checkpoints`.",
                tag="OpenAI",
                error=OpenAIError,
                answers={200: ModelDeleted},
                raises=(ModelNotFound, InvalidParam),
            )
        ]

    async def _delete(self, request: Request, caller: Caller) -> Answer:
        model = request.path_params["model"]
        await self._library.delete(caller, model)
        return json_answer(ModelDeleted(model))
