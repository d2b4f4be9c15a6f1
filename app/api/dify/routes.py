"""Dify's verbs for workflow apps. A handler is: parse, one service call, render."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.types import ASGIApp

from app.api.answer import Answer, Header
from app.api.body import query_int, query_time, read_object
from app.api.dify import pages, wire
from app.api.dify.answers import BlockingAnswer, LogPage, RunningAnswer, StopAnswer
from app.api.dify.asked import RunBody, RunHeaders, UserBody, read_run_request, read_user
from app.api.dify.pages import AppInfo, AppParameters
from app.api.dify.shapes import AcceptedRun, RunObject, RunQuery, read_parts
from app.api.dify.wire import Wire
from app.api.operation import EVENT_STREAM, Operation, read_query
from app.api.sse import EventStream
from app.api.waiting import WaitingAnswer
from app.domain.detail import Part
from app.domain.request import Caller, RunRequest, Scope
from app.domain.run import Run, RunStatus, is_terminal
from app.errors import (
    AppUnavailable,
    AtelierError,
    CheckpointUnavailable,
    DocumentInvalid,
    IdempotencyConflict,
    InvalidParam,
    TooManyRequests,
    Unavailable,
)
from app.runs.queue_view import QueueView, Standing
from app.runs.service import Accepted, RunService
from app.settings import Settings
from app.store.runs import LogQuery

logger = logging.getLogger(__name__)


class DifyApi:
    """Dify's operations below `/v1`."""

    def __init__(self, service: RunService, queue_view: QueueView, render: Wire, settings: Settings) -> None:
        self._service = service
        self._queue_view = queue_view
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
                answers={200: (BlockingAnswer, EVENT_STREAM), 202: (RunningAnswer, AcceptedRun)},
                raises=(AppUnavailable, CheckpointUnavailable, IdempotencyConflict, DocumentInvalid, TooManyRequests),
            ),
            Operation(
                method="GET",
                path="/v1/workflows/run/{run_id}",
                handler=self._detail,
                scope=Scope.READ,
                summary="Reading a run",
                description="While it goes on and for as long as it is kept; URLs are signed anew each time.",
                query=RunQuery,
                answers={200: RunObject},
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
            Operation(
                method="GET",
                path="/v1/workflows/logs",
                handler=self._logs,
                scope=Scope.READ,
                summary="Listing runs",
                description="The app's runs, the latest first.",
                answers={200: LogPage},
                raises=(InvalidParam,),
            ),
            Operation(
                method="GET",
                path="/v1/info",
                handler=self._info,
                scope=Scope.READ,
                summary="Reading the app's page",
                answers={200: AppInfo},
                raises=(AppUnavailable, DocumentInvalid),
            ),
            Operation(
                method="GET",
                path="/v1/parameters",
                handler=self._parameters,
                scope=Scope.READ,
                summary="Reading the app's parameters",
                answers={200: AppParameters},
                raises=(AppUnavailable, DocumentInvalid),
            ),
        ]

    async def _run(self, request: Request, caller: Caller) -> ASGIApp:
        headers = RunHeaders.of(request.scope["headers"])
        body = await read_object(request, self._settings.max_body_bytes)
        asked = read_run_request(body, headers, caller, self._settings)
        after = headers.after
        accepted = await self._service.submit(asked)
        run = accepted.run
        names = [(b"x-workflow-run-id", run.id.encode()), (b"x-task-id", run.task_id.encode())]
        if accepted.replayed:
            names.append((b"idempotency-replayed", b"true"))
        if asked.response_mode == "streaming":
            return EventStream(self._frames(run, after), names)
        if asked.response_mode == "async":
            standing = await self._standing(accepted, asked)
            return self._running(run, self._wire.asynchronous_answer(run, standing), names, b"respond-async")
        if is_terminal(run.status):
            self._service.call_ended(run, answered=True)
            return Answer(wire.encode(self._wire.blocking_answer(run)), names)
        return self._blocking(run, headers.wait_s, names)

    async def _standing(self, accepted: Accepted, asked: RunRequest) -> Standing | None:
        if is_terminal(accepted.run.status):
            return None
        if accepted.waits_for is None:
            return await self._queue_view.standing(accepted.run.id)
        priority = asked.caller.priority if asked.granted_priority is None else asked.granted_priority
        return await self._queue_view.joined(accepted.run, accepted.waits_for, priority)

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
                    return wire.encode(self._wire.blocking_answer(await self._service.wait(run)))
            except (TimeoutError, Unavailable):
                return None

        return WaitingAnswer(
            wait, over, names, beat_s, lambda answered: self._service.call_ended(run, answered=answered)
        )

    def _running(self, run: Run, body: object, names: list[Header], applied: bytes | None) -> Answer:
        """202: the run goes on, and where to read on."""
        headers = [*names, (b"location", self._wire.place_of(run).encode()), (b"retry-after", b"1")]
        if applied is not None:
            headers.append((b"preference-applied", applied))
        return Answer(wire.encode(body), headers, 202)

    async def _frames(self, run: Run, after: int) -> AsyncIterator[bytes]:
        yield wire.PING  # at once, so that the connection is no longer pending
        try:
            async for news in self._service.follow(run.id, self._settings.ping_s, after):
                frame = self._wire.frame(news, run)
                if frame is not None:
                    yield frame
        except AtelierError as error:
            yield self._wire.error_frame(run, error.code, error.message, error.status)
        except Exception:
            logger.exception("stream failed", extra={"action": "stream_failed", "run": run.id})
            message = "Internal Server Error, please contact support."
            yield self._wire.error_frame(run, "internal_server_error", message, 500)

    async def _detail(self, request: Request, caller: Caller) -> Answer:
        parts = read_parts(read_query(request, RunQuery).include)
        if not parts:
            return _json(self._wire.detail(await self._service.get(caller, request.path_params["run_id"])))
        more = await self._service.detail(caller, request.path_params["run_id"], parts)
        standing = await self._queue_view.standing(more.run.id) if Part.PROGRESS in parts and more.waits else None
        return _json(self._wire.detail(more.run, more, standing))

    async def _stop(self, request: Request, caller: Caller) -> Answer:
        read_user(await read_object(request, self._settings.max_body_bytes))
        run = await self._service.stop(caller, request.path_params["task_id"])
        return _json(self._wire.stop_answer(run))

    async def _logs(self, request: Request, caller: Caller) -> Answer:
        query = LogQuery(
            app_id=caller.app_id,
            page=query_int(request, "page", 1, 1, 99_999),
            limit=query_int(request, "limit", 20, 1, 100),
            statuses=_statuses(request.query_params.get("status")),
            keyword=request.query_params.get("keyword") or None,
            user=request.query_params.get("created_by_end_user_session_id"),
            created_before=query_time(request, "created_at__before"),
            created_after=query_time(request, "created_at__after"),
        )
        total, page = await self._service.logs(caller, query)
        answer = {
            "page": query.page,
            "limit": query.limit,
            "total": total,
            "has_more": total > query.page * query.limit,
            "data": [self._wire.log_entry(run) for run in page],
        }
        return _json(answer)

    async def _info(self, request: Request, caller: Caller) -> Answer:
        return _json(pages.info((await self._service.publication(caller)).graph))

    async def _parameters(self, request: Request, caller: Caller) -> Answer:
        return _json(pages.parameters((await self._service.publication(caller)).graph))


def _json(body: object) -> Answer:
    return Answer(wire.encode(body))


def _statuses(text: str | None) -> tuple[RunStatus, ...]:
    if not text:
        return ()
    try:
        return (RunStatus(text),)
    except ValueError:
        known = ", ".join(status.value for status in RunStatus)
        raise InvalidParam(f"status must be one of {known}, got '{text[:40]}'", params="status") from None
