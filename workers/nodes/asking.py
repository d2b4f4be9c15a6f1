"""One conversation with a language model: files to bytes, the answer as it comes, and what it cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from app import clock
from app.artifacts.store import ArtifactStore
from app.errors import NodeFailed
from app.graph.nodes.prompts import Message, Model
from app.graph.replies import certain_text, without_thoughts
from app.runs.endpoints import no_endpoint
from app.settings import Settings
from workers.run_step import Job, StepHalted
from workers.text.engine import TextEngine, engine_of
from workers.text.request import Function, ShownFile, TextRequest, Turn, Usage

NOT_CONFIGURED = "ModelNotConfigured"

_HALT_BEAT_S = 0.1


class Question(msgspec.Struct, frozen=True):
    """What a node asks: `detail` is how closely files are looked at, `separates` takes the thinking out of the text."""

    model: Model
    messages: Sequence[Message]
    parameters: Mapping[str, Any]
    detail: str = "high"
    separates: bool = False
    schema: Mapping[str, Any] | None = None
    function: Function | None = None


class Answer:
    """What the model has said so far, and when."""

    def __init__(self, *, separates: bool) -> None:
        self._separates = separates
        self._began_s = clock.monotonic()
        self._said = self._thought = ""
        self._first_s: float | None = None
        self._took_s = 0.0
        self.is_whole = False
        self.call = ""
        self.finish_reason: str | None = None
        self.tokens = Usage()

    @property
    def text(self) -> str:
        """The text so far, as far as it can't change any more: each is the beginning of the next one."""
        if self._separates:
            return without_thoughts(self._said)[0] if self.is_whole else certain_text(self._said)
        if not self._thought:
            return self._said
        closed = f"\n</think>\n\n{self._said}" if self._said or self.is_whole else ""
        return f"<think>\n{self._thought}{closed}"

    @property
    def thoughts(self) -> str:
        """The thinking, where it is kept apart."""
        if not self._separates:
            return ""
        return "\n".join(filter(None, (self._thought.strip(), without_thoughts(self._said)[1])))

    @property
    def usage(self) -> dict[str, Any]:
        """Dify's account. Atelier knows no prices."""
        first_s = self._took_s if self._first_s is None else self._first_s
        nothing = {"unit_price": "0", "price_unit": "0", "price": "0"}
        tokens, prices = self.tokens, {f"{side}_{name}": value for side in _SIDES for name, value in nothing.items()}
        return {
            "prompt_tokens": tokens.prompt_tokens,
            "completion_tokens": tokens.completion_tokens,
            "total_tokens": tokens.total_tokens,
            **prices,
            "total_price": "0",
            "currency": "USD",
            "latency": round(self._took_s, 3),
            "time_to_first_token": round(first_s, 3),
            "time_to_generate": round(self._took_s - first_s, 3),
        }

    @property
    def metadata(self) -> dict[str, Any]:
        return {"total_tokens": self.tokens.total_tokens, "total_price": "0", "currency": "USD"}

    async def hear(self, engine: TextEngine, request: TextRequest, say: Callable[[str], None]) -> None:
        """Takes the whole answer in, and says how far it has come."""
        async for piece in engine.stream(request):
            if self._first_s is None and (piece.text or piece.thought or piece.call):
                self._first_s = clock.monotonic() - self._began_s
            self._said += piece.text
            self._thought += piece.thought
            self.call += piece.call
            self.finish_reason = piece.finish_reason or self.finish_reason
            self.tokens = piece.usage or self.tokens
            if piece.text or piece.thought:
                say(self.text)
        self._took_s = clock.monotonic() - self._began_s
        self.is_whole = True


class Asker:
    """Puts questions to whatever the settings name for their model."""

    def __init__(self, settings: Settings, artifacts: ArtifactStore) -> None:
        self._settings = settings
        self._artifacts = artifacts

    def knows(self, model: Model) -> bool:
        return self._engine_of(model) is not None

    def ask(self, job: Job, question: Question, say: Callable[[str], None] | None = None) -> Answer:
        """The whole answer. Raises NodeFailed, StepHalted."""
        model = question.model
        engine = self._engine_of(model)
        if engine is None:
            raise NodeFailed(no_endpoint(model.provider, model.name), error_type=NOT_CONFIGURED)
        request = TextRequest(
            model=model.name,
            turns=tuple(self._turn(message, question.detail) for message in question.messages),
            parameters=question.parameters,
            schema=question.schema,
            function=question.function,
        )
        answer = Answer(separates=question.separates)
        asyncio.run(_until_halted(answer.hear(engine, request, say or _unsaid), job))
        return answer

    def _engine_of(self, model: Model) -> TextEngine | None:
        return engine_of(self._settings, model.provider, model.name)

    def _turn(self, message: Message, detail: str) -> Turn:
        return Turn(message.role, message.text or "", tuple(self._shown(file, detail) for file in message.files))

    def _shown(self, file: Mapping[str, Any], detail: str) -> ShownFile:
        return ShownFile(file["filename"], file["mime_type"], self._artifacts.get(file["sha256"]), detail)


def process_data(question: Question, answer: Answer | None) -> dict[str, Any]:
    """What Dify keeps of a conversation."""
    return {
        "model_mode": question.model.mode,
        "prompts": [_prompt(message) for message in question.messages],
        "usage": answer.usage if answer else None,
        "finish_reason": answer.finish_reason if answer else None,
        "model_provider": question.model.provider,
        "model_name": question.model.name,
    }


_SIDES = ("prompt", "completion")


def _prompt(message: Message) -> dict[str, Any]:
    files = [{name: file[name] for name in ("filename", "mime_type", "size")} for file in message.files]
    return {"role": message.role, "text": message.text, "files": files}


def _unsaid(text: str) -> None:
    """For an answer that nobody is to see before it is whole."""


async def _until_halted(work: Any, job: Job) -> None:
    """Does the work, and leaves it as soon as nobody needs it: a model that is slow is not waited for."""
    task = asyncio.ensure_future(work)
    while not (await asyncio.wait({task}, timeout=_HALT_BEAT_S))[0]:
        if job.is_halted():
            task.cancel()
            with suppress(asyncio.CancelledError, NodeFailed):
                await task
            raise StepHalted
        job.alive()  # the endpoint's own limit of time says how long to wait
    task.result()
