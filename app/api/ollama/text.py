"""Requests for text: there is no language model among the checkpoints, so they are answered as Ollama answers for one
that can't do what is asked.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp

from app.api.answer import Answer
from app.api.ollama import wire
from app.api.ollama.errors import (
    CompatibleError,
    OllamaError,
    model_not_found,
    model_required,
)
from app.api.ollama.go_json import read_body
from app.api.ollama.painting import Painting
from app.api.ollama.shapes import (
    CompatibleRequest,
    OllamaChatRequest,
    OllamaChatted,
    OllamaEmbedded,
    OllamaEmbedding,
    OllamaEmbeddingRequest,
    OllamaEmbedRequest,
)
from app.api.ollama.values import quoted, read_keep_alive
from app.api.operation import Handler, Operation
from app.api.pictures.given import longest_body
from app.api.run_headers import PictureHeaders, RunHeaders
from app.domain.request import Caller, Scope
from app.errors import BadRequest, NotFound
from app.runs.models import Model
from app.settings import Settings


class TextApi:
    """The operations of language models, by Ollama's paths and by those of OpenAI that it serves."""

    def __init__(self, painting: Painting, settings: Settings) -> None:
        self._painting = painting
        self._longest = longest_body(settings)

    def operations(self) -> list[Operation]:
        return [
            _refused("/api/chat", self._chat, "Chatting", OllamaChatRequest, OllamaChatted),
            _refused("/api/embed", self._embed, "Embedding texts", OllamaEmbedRequest, OllamaEmbedded),
            _refused("/api/embeddings", self._embedding, "Embedding a text", OllamaEmbeddingRequest, OllamaEmbedding),
            *(
                _refused(path, handler, summary, CompatibleRequest, None)
                for path, handler, summary in (
                    ("/v1/chat/completions", self._chat_completion, "Chatting, as OpenAI's API has it"),
                    ("/v1/completions", self._completion, "Completing a text, as OpenAI's API has it"),
                    ("/v1/embeddings", self._compatible_embeddings, "Embedding texts, as OpenAI's API has it"),
                    ("/v1/responses", self._response, "Responding, as OpenAI's API has it"),
                )
            ),
        ]

    async def _chat(self, request: Request, caller: Caller) -> ASGIApp:
        body = await read_body(request, OllamaChatRequest, self._longest)
        keep_alive_s = read_keep_alive(body.keep_alive)
        wire.check_logprobs(body.top_logprobs)
        model = body.model or body.name
        found = await self._known(caller, model)
        if not body.messages and keep_alive_s == 0:
            headers = RunHeaders.of(request.scope["headers"])
            return await self._painting.keep(found, wire.unloaded_from_chat(model), keep_alive_s, headers, caller)
        if body.think not in (None, False, ""):
            raise BadRequest(f"{quoted(model)} does not support thinking")
        raise BadRequest(f"{quoted(model)} does not support chat")

    async def _embed(self, request: Request, caller: Caller) -> ASGIApp:
        body = await read_body(request, OllamaEmbedRequest, self._longest)
        read_keep_alive(body.keep_alive)
        if not body.model.strip():
            raise model_not_found(body.model)
        texts = read_texts(body.input, "invalid input type")
        await self._pulled(caller, body.model)
        if texts:
            raise no_embeddings(body.model)
        return Answer(wire.as_json(OllamaEmbedded(body.model, [])))

    async def _embedding(self, request: Request, caller: Caller) -> ASGIApp:
        body = await read_body(request, OllamaEmbeddingRequest, self._longest)
        read_keep_alive(body.keep_alive)
        if not body.model.strip():
            raise model_required()
        await self._pulled(caller, body.model)
        if body.prompt:
            raise no_embeddings(body.model)
        return Answer(wire.as_json(OllamaEmbedding([])))

    async def _chat_completion(self, request: Request, caller: Caller) -> ASGIApp:
        body = await self._compatible(request)
        if not body.messages:
            raise BadRequest("[] is too short - 'messages'")
        await self._known(caller, body.model)
        raise BadRequest(f"{quoted(body.model)} does not support chat")

    async def _completion(self, request: Request, caller: Caller) -> ASGIApp:
        body = await self._compatible(request)
        await self._painting.find(caller, body.model)
        raise BadRequest(f"{quoted(body.model)} does not support generate")

    async def _compatible_embeddings(self, request: Request, caller: Caller) -> ASGIApp:
        body = await self._compatible(request)
        if body.encoding_format.lower() not in ("", "float", "base64"):
            said = f"Invalid value for 'encoding_format' = {body.encoding_format}."
            raise BadRequest(f"{said} Supported values: ['float', 'base64'].")
        if body.input is None or body.input == []:
            raise BadRequest("invalid input")
        if not body.model.strip():
            raise model_not_found(body.model)
        read_texts(body.input, "invalid input type")
        await self._pulled(caller, body.model)
        raise no_embeddings(body.model)

    async def _response(self, request: Request, caller: Caller) -> ASGIApp:
        body = await self._compatible(request)
        await self._known(caller, body.model)
        raise BadRequest(f"{quoted(body.model)} does not support chat")

    async def _compatible(self, request: Request) -> CompatibleRequest:
        return await read_body(request, CompatibleRequest, self._longest)

    async def _known(self, caller: Caller, name: str) -> Model:
        """As the chat's handler looks for a model. Raises BadRequest, NotFound."""
        if not name.strip():
            raise model_required()
        return await self._painting.find(caller, name)

    async def _pulled(self, caller: Caller, name: str) -> None:
        """As the scheduler looks for one. Raises NotFound."""
        try:
            await self._painting.find(caller, name)
        except NotFound:
            raise NotFound(f"model {quoted(name)} not found, try pulling it first", params="model") from None


def read_texts(given: Any, refusal: str) -> list[str]:
    """What is to be embedded: one text, or several. Raises BadRequest."""
    if given is None or isinstance(given, str):
        return [given] if given else []
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise BadRequest(refusal)
    return given


def no_embeddings(model: str) -> BadRequest:
    return BadRequest(f"{quoted(model)} does not support embeddings")


def _refused(path: str, handler: Handler, summary: str, body: type, answer: type | None) -> Operation:
    return Operation(
        method="POST",
        path=path,
        handler=handler,
        scope=Scope.RUN,
        summary=summary,
        description="No checkpoint can do it: it is refused as Ollama refuses it for a model that can't.",
        tag="Ollama",
        error=OllamaError if path.startswith("/api/") else CompatibleError,
        body=body,
        headers=PictureHeaders if answer is OllamaChatted else None,
        answers={200: answer} if answer else {},
        raises=(NotFound,),
    )
