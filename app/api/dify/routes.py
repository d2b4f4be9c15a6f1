"""Dify's verbs for workflow apps. A handler is: parse, one service call, render."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp

from app.api.answer import Answer
from app.api.body import query_int, query_time, read_deadline, read_object, read_priority, shortest
from app.api.dify import pages, wire
from app.api.dify.wire import Wire
from app.api.operation import Operation
from app.api.sse import EventStream
from app.domain.request import Caller, Scope
from app.domain.run import Run, RunStatus
from app.errors import AtelierError, InvalidParam
from app.runs.service import RunService
from app.settings import Settings
from app.store.runs import LogQuery

logger = logging.getLogger(__name__)


class DifyApi:
    """Dify's operations below `/v1`."""

    def __init__(self, service: RunService, render: Wire, settings: Settings) -> None:
        self._service = service
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
            ),
            Operation(
                method="GET",
                path="/v1/workflows/run/{run_id}",
                handler=self._detail,
                scope=Scope.READ,
                summary="Reading a run",
            ),
            Operation(
                method="POST",
                path="/v1/workflows/tasks/{task_id}/stop",
                handler=self._stop,
                scope=Scope.STOP,
                summary="Stopping a run",
            ),
            Operation(
                method="GET",
                path="/v1/workflows/logs",
                handler=self._logs,
                scope=Scope.READ,
                summary="Listing runs",
            ),
            Operation(
                method="GET", path="/v1/info", handler=self._info, scope=Scope.READ, summary="Reading the app's page"
            ),
            Operation(
                method="GET",
                path="/v1/parameters",
                handler=self._parameters,
                scope=Scope.READ,
                summary="Reading the app's parameters",
            ),
        ]

    async def _run(self, request: Request, caller: Caller) -> ASGIApp:
        body = await read_object(request, self._settings.max_body_bytes)
        asked = msgspec.structs.replace(
            wire.read_run_request(body, caller),
            priority=read_priority(request.headers.get("x-priority")),
            deadline_s=shortest(read_deadline(request.headers.get("cancel-after")), wire.read_deadline_s(body)),
        )
        run = await self._service.submit(asked)
        names = ((b"x-workflow-run-id", run.id.encode()), (b"x-task-id", run.task_id.encode()))
        if asked.response_mode == "streaming":
            return EventStream(self._frames(run), names)
        run = await self._service.wait(run)
        return Answer(wire.encode(self._wire.blocking_answer(run)), names)

    async def _frames(self, run: Run) -> AsyncIterator[bytes]:
        yield wire.PING  # at once, so that the connection is no longer pending
        try:
            async for news in self._service.follow(run.id):
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
        run = await self._service.get(caller, request.path_params["run_id"])
        return _json(self._wire.detail(run))

    async def _stop(self, request: Request, caller: Caller) -> Answer:
        wire.read_user(await read_object(request, self._settings.max_body_bytes))
        await self._service.stop(caller, request.path_params["task_id"])
        return _json({"result": "success"})

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
