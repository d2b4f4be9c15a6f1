"""A run's events as Dify streams them: with the request that began it, or taken up again later."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp

from app.api.answer import Header, NoContent
from app.api.dify import wire
from app.api.dify.asked import read_user
from app.api.dify.wire import Wire
from app.api.operation import EVENT_STREAM, Operation, read_headers, read_query
from app.api.sse import EventStreams, broken_off
from app.domain.request import Caller, Scope
from app.domain.run import Run, is_terminal
from app.errors import AtelierError, InvalidParam, NotFound, Unavailable
from app.events.topic import Fact
from app.runs.service import RunService

Number = Annotated[int, msgspec.Meta(ge=0, le=2**31, description="The number of an event: the `id` of its frame.")]


class Resume(msgspec.Struct, frozen=True):
    """The header with which a browser's EventSource comes back."""

    last_event_id: Number | None = msgspec.field(default=None, name="Last-Event-ID")


class EventsQuery(msgspec.Struct, frozen=True):
    user: Annotated[str, msgspec.Meta(description="Who began the run.", examples=["abc-123"])] = ""
    include_state_snapshot: Annotated[
        bool, msgspec.Meta(description="Begin with how the run stands: its nodes, without their values.")
    ] = False
    continue_on_pause: Annotated[
        bool, msgspec.Meta(description="Stay while the run is paused; else the stream ends with `workflow_paused`.")
    ] = False
    after: Annotated[
        Number | None, msgspec.Meta(description="Everything after this event, as `Last-Event-ID` asks for it.")
    ] = None


class RunEvents:
    """Streams of runs. What can't go on here (the database is away, the server ends) closes with a `retry:` hint."""

    def __init__(self, service: RunService, render: Wire, streams: EventStreams, ping_s: float) -> None:
        self._service = service
        self._ping_s = ping_s
        self._wire = render
        self._streams = streams

    def operations(self) -> list[Operation]:
        return [
            Operation(
                method="GET",
                path="/v1/workflow/{run_id}/events",
                handler=self._events,
                scope=Scope.READ,
                summary="Following a run",
                query=EventsQuery,
                headers=Resume,
                answers={200: EVENT_STREAM, 204: "The run had ended with the event that was named last."},
                raises=(InvalidParam, NotFound),
            )
        ]

    def stream(self, run: Run, headers: Iterable[Header] = (), after: int = 0) -> ASGIApp:
        """All of the run's events above the number `after`, replayed and then live."""
        return self._streams.stream(self._frames(run, after), headers)

    async def _events(self, request: Request, caller: Caller) -> ASGIApp:
        query, resume = read_query(request, EventsQuery), read_headers(request, Resume)
        user = read_user({"user": query.user})
        run = await self._service.get_of_user(caller, request.path_params["run_id"], user)
        after = known_number(run, resume.last_event_id, "Last-Event-ID")
        if after is None:
            after = known_number(run, query.after, "after")
        if after is not None:
            if after == run.last_seq and is_terminal(run.status):
                return NoContent()  # which also tells an EventSource not to come back
            return self._streams.stream(self._frames(run, after, through_pauses=query.continue_on_pause))
        if is_terminal(run.status):
            return self._streams.stream(self._end(run))
        if query.include_state_snapshot:
            through = query.continue_on_pause
            return self._streams.stream(self._frames(run, 0, snapshot_to=run.last_seq, through_pauses=through))
        return self._streams.stream(self._frames(run, run.last_seq, through_pauses=query.continue_on_pause))

    async def _frames(
        self, run: Run, after: int, *, snapshot_to: int = 0, through_pauses: bool = False
    ) -> AsyncGenerator[bytes, None]:
        yield wire.HELLO
        try:
            async for news in self._service.follow(run.id, self._ping_s, after, through_pauses=through_pauses):
                if isinstance(news, Fact) and news.event.seq <= snapshot_to:
                    frame = self._wire.snapshot_frame(news, run)
                    if frame is None:
                        continue
                else:
                    frame = self._wire.frame(news, run)
                if frame:
                    yield frame
        except Unavailable:
            yield wire.retry_frame()
        except AtelierError as error:
            yield self._wire.error_frame(run, error)
        except Exception:
            yield self._wire.error_frame(run, broken_off(run.id))

    async def _end(self, run: Run) -> AsyncGenerator[bytes, None]:
        """Of a run that has ended its end alone; as in Dify its task is named by the run's own id."""
        yield wire.HELLO
        yield self._wire.end_frame(run)


def known_number(run: Run, number: int | None, field: str) -> int | None:
    """The number of an event that the run has. Raises InvalidParam for one that it does not have (yet)."""
    if number is not None and number > run.last_seq:
        raise InvalidParam(f"{field}: the run has no event {number}, its last is {run.last_seq}", params=field)
    return number
