"""Dify's verbs for workflow apps. A handler is: parse, one service call, render."""

from __future__ import annotations

from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp

from app.api.answer import Answer, NoContent
from app.api.body import read_object
from app.api.dify import pages, wire
from app.api.dify.events import RunEvents
from app.api.dify.polls import Poll, Wait
from app.api.dify.wire import Wire
from app.api.operation import Operation, read_query
from app.api.sse import unless_gone
from app.domain.request import Caller, Scope
from app.errors import NotFound
from app.runs.polls import Polls
from app.runs.service import RunService
from app.settings import Settings


class DetailQuery(msgspec.Struct, frozen=True):
    wait: Wait = 0.0
    include: Annotated[str, msgspec.Meta(description="What to tell besides, with commas between.")] = ""


class DifyApi:
    """Dify's operations below `/v1`."""

    def __init__(self, service: RunService, polls: Polls, render: Wire, events: RunEvents, settings: Settings) -> None:
        self._service = service
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
            ),
            Operation(
                method="GET",
                path="/v1/workflows/run/{run_id}",
                handler=self._detail,
                scope=Scope.READ,
                summary="Reading a run",
                query=DetailQuery,
                answers={304: "Nothing has changed since the state that If-None-Match names."},
                raises=(NotFound,),
            ),
            Operation(
                method="POST",
                path="/v1/workflows/tasks/{task_id}/stop",
                handler=self._stop,
                scope=Scope.STOP,
                summary="Stopping a run",
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
        asked = wire.read_run_request(body, caller)
        run = await self._service.submit(asked)
        names = ((b"x-workflow-run-id", run.id.encode()), (b"x-task-id", run.task_id.encode()))
        if asked.response_mode == "streaming":
            return self._events.stream(run, names)
        run = await self._service.wait(run)
        return Answer(wire.encode(self._wire.blocking_answer(run)), names)

    async def _detail(self, request: Request, caller: Caller) -> ASGIApp:
        query = read_query(request, DetailQuery)
        poll = Poll(request, query.include, self._settings.files_access_timeout_s)
        asking = self._polls.ask(caller, request.path_params["run_id"], poll, query.wait)
        known = await unless_gone(request.receive, asking) if query.wait else await asking
        if known is None:
            return NoContent()  # nobody is there to read it
        run, standing = known
        if run is None:
            return NoContent(poll.headers(standing), 304)
        return Answer(wire.encode(self._wire.detail(run)), poll.headers(standing))

    async def _stop(self, request: Request, caller: Caller) -> Answer:
        wire.read_user(await read_object(request, self._settings.max_body_bytes))
        await self._service.stop(caller, request.path_params["task_id"])
        return _json({"result": "success"})

    async def _info(self, request: Request, caller: Caller) -> Answer:
        return _json(pages.info((await self._service.publication(caller)).graph))

    async def _parameters(self, request: Request, caller: Caller) -> Answer:
        return _json(pages.parameters((await self._service.publication(caller)).graph))


def _json(body: object) -> Answer:
    return Answer(wire.encode(body))
