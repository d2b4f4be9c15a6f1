"""Requests for pictures as runs: the same acceptance, the same end, in every dialect."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import msgspec
from starlette.types import ASGIApp

from app.api.body import read_deadline, read_priority
from app.api.pictures.answers import LateAnswer
from app.api.pictures.asked import VARIATION, GivenPicture, PictureRequest
from app.api.pictures.wishes import EDIT_STRENGTH, EFFORTS, VARIATION_STRENGTH
from app.api.run_headers import read_idempotency_key
from app.domain.artifact import Artifact, Picture, Upload
from app.domain.detail import Part, StepTimes
from app.domain.event import EventKind, QueuePosition, Tick
from app.domain.request import Caller, RunRequest
from app.domain.run import Run, RunStatus
from app.errors import (
    AtelierError,
    FileNotFound,
    IdempotencyConflict,
    InvalidParam,
    RunFailed,
    RunOverdue,
    RunStopped,
    TooManyRequests,
)
from app.events.feed import Silence
from app.events.topic import Fact
from app.runs.end_users import EndUsers
from app.runs.models import Model, ModelNotFound, Models
from app.runs.service import RunService
from app.runs.shipped import shipped
from app.runs.uploads import Owner, Uploads

_encoder = msgspec.json.Encoder(order="deterministic")
_OVERDUE = "deadline_exceeded"
_STEPS = 30  # of a checkpoint whose card says nothing
_MOST_STEPS = 150

REFUSALS = (ModelNotFound, IdempotencyConflict, TooManyRequests, RunFailed, RunStopped, RunOverdue)
"""What any request for pictures may be answered with, besides what is wrong with the request itself."""

Kept = Upload | Artifact | str
"""A picture that is here, or the URL of one that is to be fetched."""


class Asked(msgspec.Struct, frozen=True):
    """An accepted request: its run, what paints it, and whether an earlier request had made the run."""

    run: Run
    model: Model
    replayed: bool

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """What every answer says of the run, so that it can be read, followed and stopped by its ids."""
        told = [(b"x-workflow-run-id", self.run.id.encode()), (b"x-task-id", self.run.task_id.encode())]
        return [*told, (b"idempotency-replayed", b"true")] if self.replayed else told


class Made(msgspec.Struct, frozen=True):
    """What a run has made, the time that it took, and in how many denoising steps."""

    pictures: tuple[Picture, ...]
    times: StepTimes
    steps: int


class PictureRuns:
    """Makes runs of requests for pictures, and tells what became of them."""

    def __init__(
        self, service: RunService, models: Models, uploads: Uploads, users: EndUsers, silence_s: float
    ) -> None:
        """`silence_s`: after so long without news who follows a run hears of that, too."""
        self.models = models
        self.limits = uploads.limits
        self._service = service
        self._uploads = uploads
        self._users = users
        self._silence_s = silence_s

    async def submit(self, request: PictureRequest) -> Asked:
        """Accepts a run of the request's document; once this returns it is durable.

        Raises ModelNotFound, FileTooLarge, and what `RunService.submit` raises: InvalidParam with the document's name
        of what is wrong.
        """
        model = await self._model(request)
        defaults = {**strength_of(request), **_defaults(model, request), **steps_of(request.effort, model)}
        inputs: dict[str, Any] = {**defaults, **request.inputs, "model_name": model.checkpoint.name}
        given = await self._keep(request)
        accepted = await self._service.submit(
            RunRequest(
                request.caller,
                inputs | {name: _named(request.document, name, files) for name, files in given.items()},
                request.user,
                "streaming" if request.streams else "blocking",
                request.dialect,
                idempotency_key=read_idempotency_key(request.headers.idempotency_key),
                priority=read_priority(request.headers.x_priority),
                deadline_s=read_deadline(request.headers.cancel_after),
                shipped=request.document,
                told=_digest(inputs, given),
            )
        )
        self._users.note(accepted.run.app_id, accepted.run.user)
        return Asked(accepted.run, model, accepted.replayed)

    async def _model(self, request: PictureRequest) -> Model:
        if request.found is not None:
            return request.found
        try:
            return await self.models.find(request.caller, request.model)
        except ModelNotFound:
            if not request.or_default:
                raise
            return await self.models.find(request.caller, "")

    def late(self, asked: Asked, answer: Callable[[Run], Awaitable[ASGIApp]]) -> ASGIApp:
        """The answer to a call that waits for the end of its run. A client that leaves changes nothing."""

        async def wait() -> ASGIApp:
            return await answer(await self._service.wait(asked.run))

        return LateAnswer(wait, lambda answered: self._service.call_ended(asked.run, answered=answered), asked.headers)

    async def follow(self, asked: Asked) -> AsyncIterator[Tick | QueuePosition | Silence | Run]:
        """Its progress as it comes; its run at last, once it has ended."""
        async for news in self._service.follow(asked.run.id, self._silence_s):
            if not isinstance(news, Fact):
                yield news
            elif news.event.kind is EventKind.RUN_FINISHED:
                yield news.run

    async def made_in(self, caller: Caller, run: Run) -> Made:
        """The pictures of a run that has ended, with the time that it took. Raises as `made_by` does."""
        pictures = made_by(run)
        detail = await self._service.detail(caller, run.id, {Part.TIMINGS}, has_few_steps=True)
        steps = [(each.step.inputs or {}).get("steps") for each in detail.steps if each.work]
        return Made(pictures, detail.times, next(filter(None, steps), 0))

    async def _keep(self, request: PictureRequest) -> dict[str, list[Kept]]:
        """Stores what came with the request, as its user's uploads; by the document's variable. URLs stay."""
        owner = Owner(request.caller.app_id, request.user)
        kept: dict[str, list[Kept]] = {}
        with ExitStack() as files:
            for picture in (each for group in request.pictures.values() for each in group if each.content):
                files.enter_context(picture.content)  # type: ignore[arg-type] # it has content
            for name, group in request.pictures.items():
                kept[name] = [await self._kept(picture, request.caller, owner) for picture in group]
        return kept

    async def _kept(self, picture: GivenPicture, caller: Caller, owner: Owner) -> Kept:
        if picture.file_id:
            try:
                return await self._uploads.find(caller, picture.file_id, owner.user)
            except FileNotFound:
                raise FileNotFound(f"There is no file '{picture.file_id}'.", params=picture.field) from None
        if picture.content is None:
            return picture.url
        return await self._uploads.keep(picture.content, picture.filename, owner)


def made_by(run: Run) -> tuple[Picture, ...]:
    """The pictures of a run that has ended, in their order. Raises RunFailed, RunStopped, RunOverdue."""
    check_success(run)
    return msgspec.convert(run.outputs["files"] or (), tuple[Picture, ...])


def check_success(run: Run) -> None:
    """Raises RunFailed, RunStopped, RunOverdue for a run that has ended otherwise."""
    if run.status not in (RunStatus.SUCCEEDED, RunStatus.PARTIAL_SUCCEEDED):
        raise failure_of(run)


def _defaults(model: Model, request: PictureRequest) -> dict[str, Any]:
    """What the preset says; but a picture that is changed keeps its own size unless the request says another."""
    if not request.pictures:
        return dict(model.defaults)
    return {name: value for name, value in model.defaults.items() if name not in ("width", "height")}


def failure_of(run: Run) -> AtelierError:
    """What a call is told whose run has ended without its pictures."""
    said = run.error or f"The run ended as {run.status}."
    if run.status is RunStatus.STOPPED:
        return RunOverdue(said) if run.error_code == _OVERDUE else RunStopped(said)
    return InvalidParam(said) if run.error_code == InvalidParam.code else RunFailed(said)


def steps_of(effort: str, model: Model) -> dict[str, int]:
    """The input that a word for effort sets; an empty one sets none."""
    if not effort:
        return {}
    own = model.defaults.get("steps") or model.checkpoint.steps or _STEPS
    return {"steps": min(max(round(own * EFFORTS[effort]), 1), _MOST_STEPS)}


def strength_of(request: PictureRequest) -> dict[str, float]:
    """How far a change goes where nobody says it, if that is not what the document's tool does.

    References are kept in sight: at 1 a masked part would begin as noise, and have nothing of them.
    """
    if request.document == VARIATION:
        return {"strength": VARIATION_STRENGTH}
    return {"strength": EDIT_STRENGTH} if {"mask", "reference"} <= request.pictures.keys() else {}


def _named(document: str, name: str, files: list[Kept]) -> Any:
    """As a run's inputs name files; a variable of one file gets the first."""
    named = [_reference(file) for file in files]
    kind = next(each.type for each in shipped(document).graph.start.variables if each.name == name)
    return named[0] if kind == "file" else named


def _reference(file: Kept) -> dict[str, str]:
    if isinstance(file, str):
        return {"type": "image", "transfer_method": "remote_url", "url": file}
    if isinstance(file, Artifact):
        return {"type": "image", "transfer_method": "tool_file", "tool_file_id": file.id}
    return {"type": "image", "transfer_method": "local_file", "upload_file_id": file.id}


def _digest(inputs: dict[str, Any], given: dict[str, list[Kept]]) -> str:
    """What makes two requests the same: the bytes of their pictures, not the ids that these got."""
    files = {name: [file if isinstance(file, str) else file.sha256 for file in of] for name, of in given.items()}
    return hashlib.sha256(_encoder.encode((inputs, files))).hexdigest()
