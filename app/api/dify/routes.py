"""Dify's verbs for workflow apps. A handler is: parse, one service call, render."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp

from app.api.answer import Answer, Header, NoContent, json_answer
from app.api.body import read_object
from app.api.dify import wire
from app.api.dify.answers import BlockingAnswer, PausedAnswer, RunningAnswer, StopAnswer
from app.api.dify.asked import RunBody, UserBody, read_run_request, read_user, read_version_id
from app.api.dify.events import RunEvents, known_number
from app.api.dify.polls import Conditional, Poll
from app.api.dify.shapes import AcceptedRun, RunObject, RunQuery, read_parts
from app.api.dify.wire import Wire
from app.api.operation import EVENT_STREAM, Content, Operation, read_query
from app.api.run_headers import RunHeaders
from app.api.sse import unless_gone
from app.api.waiting import WaitingAnswer
from app.domain.request import Caller, RunRequest, Scope
from app.domain.run import Run, RunStatus, is_terminal
from app.errors import (
    AppUnavailable,
    CheckpointUnavailable,
    DocumentInvalid,
    FileTooLarge,
    IdempotencyConflict,
    TooManyRequests,
    Unavailable,
)
from app.runs.end_users import EndUsers
from app.runs.polls import Polls
from app.runs.service import RunService
from app.settings import Settings

RUN_ANSWERS: Mapping[int, Content] = {
    200: (BlockingAnswer, PausedAnswer, EVENT_STREAM),
    202: (RunningAnswer, AcceptedRun),
}
REFUSALS = (
    *(AppUnavailable, CheckpointUnavailable, IdempotencyConflict, DocumentInvalid),
    *(FileTooLarge, TooManyRequests),
)


class DifyApi:
    """Dify's operations below `/v1`."""

    def __init__(
        self,
        service: RunService,
        polls: Polls,
        users: EndUsers,
        render: Wire,
        events: RunEvents,
        settings: Settings,
    ) -> None:
        self._service = service
        self._users = users
        self._polls = polls
        self._events = events
        self._wire = render
        self._settings = settings

    def operations(self) -> list[Operation]:
        return [
            Operation(
                method="POST",
                path="/v1/workflows/run",
                handler=self._run,
                scope=Scope.RUN,
                summary="Running a workflow",
                description="Answers when the run has ended (blocking), with its events as they come (streaming), or "
                "at once with its ids (async). Whatever becomes of the connection, the run goes on.",
                body=RunBody,
                headers=RunHeaders,
                answers=RUN_ANSWERS,
                raises=REFUSALS,
            ),
            Operation(
                method="POST",
                path="/v1/workflows/{workflow_id}/run",
                handler=self._run_version,
                scope=Scope.RUN,
                summary="Running a version of a workflow",
                description="As running the workflow; the version is one that the app has or had, whatever it runs "
                "now. A run tells its version as `workflow_id`.",
                body=RunBody,
                headers=RunHeaders,
                answers=RUN_ANSWERS,
                raises=REFUSALS,
            ),
            Operation(
                method="GET",
                path="/v1/workflows/run/{run_id}",
                handler=self._detail,
                scope=Scope.READ,
                summary="Reading a run",
                description="While it goes on and for as long as it is kept; URLs are signed anew each time.",
                query=RunQuery,
                headers=Conditional,
                answers={200: RunObject, 304: "No news since what If-None-Match names."},
            ),
            Operation(
                method="POST",
                path="/v1/workflows/tasks/{task_id}/stop",
                handler=self._stop,
                scope=Scope.STOP,
                summary="Stopping a run",
                description="By its task's id or its own, in any mode; within one denoising step. An ended run keeps "
                "its end.",
                body=UserBody,
                answers={200: StopAnswer},
            ),
        ]

    async def _run(self, request: Request, caller: Caller) -> ASGIApp:
        headers = RunHeaders.of(request.scope["headers"])
        body = await read_object(request, self._settings.max_body_bytes)
        return await self.submit(read_run_request(body, headers, caller, self._settings), headers)

    async def _run_version(self, request: Request, caller: Caller) -> ASGIApp:
        headers = RunHeaders.of(request.scope["headers"])
        body = await read_object(request, self._settings.max_body_bytes)
        asked = read_run_request(body, headers, caller, self._settings)
        version_id = read_version_id(request.path_params["workflow_id"])
        return await self.submit(msgspec.structs.replace(asked, workflow_id=version_id), headers)

    async def submit(self, asked: RunRequest, headers: RunHeaders) -> ASGIApp:
        """The answer to a request for a run, in the way that it asks for. Raises what `RunService.submit` raises."""
        after = headers.after
        accepted = await self._service.submit(asked)
        run = accepted.run
        self._users.note(run.app_id, run.user)
        # Of a run that this very request makes nobody has seen an event: the number is another run's.
        after = known_number(run, after, "Last-Event-ID") or 0 if accepted.replayed else 0
        names = [(b"x-workflow-run-id", run.id.encode()), (b"x-task-id", run.task_id.encode())]
        if accepted.replayed:
            names.append((b"idempotency-replayed", b"true"))
        if asked.response_mode == "streaming":
            return self._events.stream(run, names, after)
        if asked.response_mode == "async":
            place = await self._polls.place_of(accepted, asked)
            applied = b"respond-async" if headers.is_async else None
            return self._running(run, self._wire.asynchronous_answer(run, place), names, applied)
        if run.status is not RunStatus.RUNNING:
            self._service.call_ended(run, answered=True)
            return Answer(await self._answer(run), names)
        return self._blocking(run, headers.wait_s, names)

    def _blocking(self, run: Run, wished_s: float, names: list[Header]) -> WaitingAnswer:
        """Waits for the end; at most as long as the caller or the settings say, then with the running run as answer."""
        beat_s, bound_s = self._settings.blocking_beat_s, self._settings.blocking_wait_s
        wait_s = min(filter(None, (bound_s, wished_s)), default=0.0)
        if wait_s and wait_s <= beat_s:
            beat_s = 0.0  # it is over before the first beat, so the status can wait for what comes of it
        applied = b"wait=%d" % wished_s if wished_s and wait_s == wished_s else None
        over = self._running(run, self._wire.running_answer(run), names, applied)

        async def wait() -> bytes | None:
            try:
                async with asyncio.timeout(wait_s or None):
                    return await self._answer(await self._service.wait(run))
            except (TimeoutError, Unavailable):
                return None

        return WaitingAnswer(
            wait, over, names, beat_s, lambda answered: self._service.call_ended(run, answered=answered)
        )

    async def _answer(self, run: Run) -> bytes:
        """Of a run that has ended, or waits for a person."""
        if is_terminal(run.status):
            return wire.encode(self._wire.blocking_answer(run))
        return wire.encode(self._wire.paused_answer(run, await self._service.pause(run)))

    def _running(self, run: Run, body: object, names: list[Header], applied: bytes | None) -> Answer:
        """202: the run goes on, and where to read on."""
        headers = [*names, (b"location", self._wire.place_of(run).encode()), (b"retry-after", b"1")]
        if applied is not None:
            headers.append((b"preference-applied", applied))
        return Answer(wire.encode(body), headers, 202)

    async def _detail(self, request: Request, caller: Caller) -> ASGIApp:
        query = read_query(request, RunQuery)
        parts = read_parts(query.include)
        poll = Poll(Conditional.of(request.headers), parts, self._settings.files_access_timeout_s)
        asking = self._polls.ask(caller, request.path_params["run_id"], parts, poll, query.wait)
        seen = await unless_gone(request.scope, request.receive, asking) if query.wait else await asking
        if seen is None:
            return NoContent()  # nobody is there to read it
        if seen.run is None:
            return NoContent(poll.headers(seen.standing), 304)
        return Answer(wire.encode(self._wire.detail(seen.run, seen.more, seen.place)), poll.headers(seen.standing))

    async def _stop(self, request: Request, caller: Caller) -> Answer:
        read_user(await read_object(request, self._settings.max_body_bytes))
        run = await self._service.stop(caller, request.path_params["task_id"])
        return json_answer(self._wire.stop_answer(run))
