"""Lists of runs: Dify's log with its filters, and run objects by ids, filters and cursor."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from starlette.requests import Request

from app.api.answer import Answer, json_answer
from app.api.dify import wire
from app.api.dify.answers import LogPage
from app.api.dify.shapes import RunPage
from app.api.dify.wire import Wire
from app.api.operation import Operation, read_query
from app.domain.request import Caller, Scope
from app.domain.run import Run, RunStatus
from app.errors import InvalidParam
from app.runs.service import RunService
from app.store.lists import Filters, LogQuery

_MOST_IDS = 100
_LATEST_S = 253_402_300_799.0  # the end of the year 9999

Limit = Annotated[int, msgspec.Meta(ge=1, le=100, description="The most runs of a page.")]
Statuses = Annotated[
    str, msgspec.Meta(description="One status or several, with commas between them.", examples=["succeeded,failed"])
]
Time = Annotated[str, msgspec.Meta(description="ISO 8601; UTC when it says no zone.", examples=["2026-11-21T10:00Z"])]


class LogsQuery(msgspec.Struct, frozen=True):
    page: Annotated[int, msgspec.Meta(ge=1, le=99_999)] = 1
    limit: Limit = 20
    status: Statuses = ""
    keyword: Annotated[
        str, msgspec.Meta(description="What inputs, outputs or the user's name contain, or the id of a run.")
    ] = ""
    created_at__before: Time = ""
    created_at__after: Time = ""
    created_by_end_user_session_id: Annotated[str, msgspec.Meta(description="The `user` of the run.")] = ""
    created_by_account: Annotated[str, msgspec.Meta(description="Nobody has an account here.")] = ""


class RunsQuery(msgspec.Struct, frozen=True):
    ids: Annotated[str, msgspec.Meta(description="Up to 100 run ids, with commas between them.")] = ""
    status: Statuses = ""
    user: Annotated[str, msgspec.Meta(description="Who began the runs.")] = ""
    updated_after: Annotated[
        str,
        msgspec.Meta(description="What has happened since: seconds since 1970, or ISO 8601.", examples=["1795255200"]),
    ] = ""
    limit: Limit = 20
    cursor: Annotated[str, msgspec.Meta(description="`next_cursor` of the page before.")] = ""


class RunLists:
    """The two lists. Both show the caller's own app, and runs of every status."""

    def __init__(self, service: RunService, render: Wire) -> None:
        self._service = service
        self._wire = render

    def operations(self) -> list[Operation]:
        return [
            Operation(
                method="GET",
                path="/v1/workflows/logs",
                handler=self._logs,
                scope=Scope.READ,
                summary="Listing runs",
                query=LogsQuery,
                answers={200: LogPage},
                raises=(InvalidParam,),
            ),
            Operation(
                method="GET",
                path="/v1/workflows/runs",
                handler=self._runs,
                scope=Scope.READ,
                summary="Reading several runs",
                query=RunsQuery,
                answers={200: RunPage},
                raises=(InvalidParam,),
            ),
        ]

    async def _logs(self, request: Request, caller: Caller) -> Answer:
        query = read_query(request, LogsQuery)
        if query.created_by_account:
            raise InvalidParam(f"Account not found: {query.created_by_account[:100]}", params="created_by_account")
        filters = Filters(
            statuses=_statuses(query.status),
            keyword=query.keyword[: _longest(query.keyword)] or None,
            user=query.created_by_end_user_session_id or None,
            created_before=_time("created_at__before", query.created_at__before),
            created_after=_time("created_at__after", query.created_at__after),
        )
        total, page = await self._service.logs(caller, LogQuery(filters, query.page, query.limit))
        answer = {
            "page": query.page,
            "limit": query.limit,
            "total": total,
            "has_more": total > query.page * query.limit,
            "data": [self._wire.log_entry(each.run, each.dialect) for each in page],
        }
        return json_answer(answer)

    async def _runs(self, request: Request, caller: Caller) -> Answer:
        query = read_query(request, RunsQuery)
        filters = Filters(
            ids=_ids(query.ids),
            statuses=_statuses(query.status),
            user=query.user or None,
            updated_after=_moment("updated_after", query.updated_after),
            after=_read_cursor(query.cursor),
        )
        page = await self._service.page(caller, filters, query.limit + 1)  # one more, to know whether there is one
        shown, has_more = page[: query.limit], len(page) > query.limit
        answer = RunPage(
            limit=query.limit,
            has_more=has_more,
            next_cursor=_cursor(shown[-1].run) if has_more else None,
            data=[self._wire.listed(each.run, each.dialect) for each in shown],
        )
        return json_answer(answer)


def _longest(keyword: str) -> int:
    """Dify looks at the first 30 characters; an id is longer."""
    return 36 if len(keyword) == 36 and keyword.count("-") == 4 else 30


def _ids(text: str) -> tuple[str, ...] | None:
    if not text:
        return None
    found = tuple(each.strip().lower() for each in text.split(","))
    if len(found) > _MOST_IDS:
        raise InvalidParam(f"ids: at most {_MOST_IDS} can be asked for at once, got {len(found)}", params="ids")
    return found


def _statuses(text: str) -> tuple[RunStatus, ...] | None:
    if not text:
        return None
    try:
        return tuple(RunStatus(each.strip()) for each in text.split(","))
    except ValueError:
        known = ", ".join(status.value for status in RunStatus)
        raise InvalidParam(f"status must be one of {known}, got '{text[:40]}'", params="status") from None


def _moment(name: str, text: str) -> float | None:
    """Seconds since 1970, or an ISO 8601 time. Raises InvalidParam."""
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return min(float(text), _LATEST_S)
    return _time(name, text)


def _time(name: str, text: str) -> float | None:
    """An ISO 8601 time as seconds since 1970; without an offset it is UTC. Raises InvalidParam."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise InvalidParam(f"{name} must be an ISO 8601 time, got '{text[:40]}'", params=name) from None


def _cursor(run: Run) -> str:
    return base64.urlsafe_b64encode(wire.encode((run.created_at, run.id))).decode().rstrip("=")


_cursor_decoder = msgspec.json.Decoder(tuple[float, str])


def _read_cursor(text: str) -> tuple[float, str] | None:
    if not text:
        return None
    try:
        created_at, run_id = _cursor_decoder.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise InvalidParam("cursor must be the next_cursor of another page", params="cursor") from None
    return created_at, run_id.replace("\0", "")
