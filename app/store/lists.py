"""Runs by the page: Dify's log, the list by ids, filters and cursor, and how far many runs have come.

A statement is put together once for each combination of filters: values never become part of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Select, and_, bindparam, func, literal_column, or_, select, union

from app.domain.run import Run, RunStatus
from app.store.engine import Row, Tx
from app.store.rows import RUN_COLUMNS, run_from, to_json
from app.store.schema import is_one_of, runs, tasks

# A look at one row for each run that is shown, so that pages are still read in the order of the runs.
_dialect = select(tasks.c.dialect).where(tasks.c.id == runs.c.task_id).correlate(runs).scalar_subquery()
_last_numbers = select(runs.c.id, runs.c.last_seq).where(is_one_of(runs.c.id, bindparam("ids")))


class Filters(msgspec.Struct, frozen=True):
    """Which runs of an app a list shows; None: any. Times are seconds since 1970, inclusive.

    `after` is the (created_at, id) of the last run of the page before.
    """

    ids: tuple[str, ...] | None = None
    statuses: tuple[RunStatus, ...] | None = None
    user: str | None = None
    keyword: str | None = None
    created_before: float | None = None
    created_after: float | None = None
    updated_after: float | None = None
    after: tuple[float, str] | None = None


class LogQuery(msgspec.Struct, frozen=True):
    """A page of the log: its number, counted from 1, and its length."""

    filters: Filters
    page: int = 1
    limit: int = 20


class Listed(msgspec.Struct, frozen=True):
    """A run, and the dialect in which it was asked for."""

    run: Run
    dialect: str


def last_numbers(tx: Tx, run_ids: Iterable[str]) -> dict[str, int]:
    """The number of the last fact of each of the runs; nothing for a run that is not there."""
    return {row[0]: row[1] for row in tx.rows(_last_numbers, {"ids": to_json(list(run_ids))})}


def log_page(tx: Tx, app_id: str, query: LogQuery) -> tuple[int, Sequence[Listed]]:
    """(how many runs of the app there are, those of the page), the newest first."""
    names, values = _named(app_id, query.filters)
    counted = tx.row(_count(names), values)
    values |= {"most": query.limit, "skipped": (query.page - 1) * query.limit}
    return (int(counted[0]) if counted else 0), [_listed(row) for row in tx.rows(_log_page(names), values)]


def run_page(tx: Tx, app_id: str, filters: Filters, limit: int) -> Sequence[Listed]:
    """At most so many runs of the app, the newest first, from the filters' cursor on."""
    names, values = _named(app_id, filters)
    return [_listed(row) for row in tx.rows(_page(names), values | {"most": limit})]


def _listed(row: Row) -> Listed:
    return Listed(run_from(row[:-1]), row[-1])


def _named(app_id: str, filters: Filters) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The names of the filters that are set, and the values of their statement."""
    asked = {name: value for name, value in msgspec.structs.asdict(filters).items() if value is not None}
    values: dict[str, Any] = {"app_id": app_id}
    for name, value in asked.items():
        match name:
            case "ids":
                values[name] = to_json(value)
            case "statuses":
                values[name] = to_json([status.value for status in value])
            case "keyword":
                # Inputs and outputs are stored as JSON: a quotation mark lies there as it is written in JSON.
                values["said"], values["in_json"] = _pattern(value), _pattern(to_json(value)[1:-1])
                values["said_id"] = _uuid(value)
            case "after":
                values["after_s"], values["after_id"] = value
            case _:
                values[name] = value
    return tuple(asked), values


def _pattern(word: str) -> str:
    for special in "/%_":
        word = word.replace(special, "/" + special)
    return f"%{word}%"


def _uuid(word: str) -> str:
    """The word as ids are written, if it is one; else what no id is."""
    try:
        return str(UUID(word))
    except ValueError:
        return ""


@lru_cache
def _count(names: tuple[str, ...]) -> Select[Any]:
    return select(func.count()).select_from(runs).where(*_conditions(names))


@lru_cache
def _page(names: tuple[str, ...]) -> Select[Any]:
    newest = select(*RUN_COLUMNS, _dialect).where(*_conditions(names))
    newest = newest.order_by(runs.c.created_at.desc(), runs.c.id.desc())
    return newest.limit(bindparam("most"))


@lru_cache
def _log_page(names: tuple[str, ...]) -> Select[Any]:
    return _page(names).offset(bindparam("skipped"))


def _conditions(names: tuple[str, ...]) -> list[ColumnElement[bool]]:
    # Where ids are known, they lead to the rows; an index of the app would be read from end to end.
    app_id = func.coalesce(runs.c.app_id, "") if _BY_ID.intersection(names) else runs.c.app_id
    return [app_id == bindparam("app_id"), *(_CONDITIONS[name] for name in names)]


def _said(word: str, *columns: Any) -> list[ColumnElement[bool]]:
    return [func.lower(column).like(func.lower(bindparam(word)), escape="/") for column in columns]


# Each part has an index: of open runs, of those that waited for a worker, of the app's newest.
_updated_since = union(
    select(runs.c.id).where(
        runs.c.status == literal_column("'running'"),
        runs.c.app_id == bindparam("app_id"),
        runs.c.updated_at >= bindparam("updated_after"),
    ),
    select(runs.c.id).where(
        runs.c.deadline_at.is_not(None),
        runs.c.finished_at.is_not(None),
        runs.c.finished_at >= bindparam("updated_after"),
    ),
    select(runs.c.id).where(
        runs.c.app_id == bindparam("app_id"),
        runs.c.created_at >= bindparam("updated_after"),
    ),
)
_BY_ID = frozenset({"ids", "updated_after"})
_any_said = (
    *_said("in_json", runs.c.inputs, runs.c.outputs),
    *_said("said", runs.c.user),
    runs.c.id == bindparam("said_id"),
)
_CONDITIONS: dict[str, ColumnElement[bool]] = {
    "ids": is_one_of(runs.c.id, bindparam("ids")),
    "statuses": is_one_of(runs.c.status, bindparam("statuses")),
    "user": runs.c.user == bindparam("user"),
    "keyword": or_(*_any_said),
    "created_before": runs.c.created_at <= bindparam("created_before"),
    "created_after": runs.c.created_at >= bindparam("created_after"),
    "updated_after": runs.c.id.in_(_updated_since),
    "after": and_(
        runs.c.created_at <= bindparam("after_s"),
        or_(runs.c.created_at < bindparam("after_s"), runs.c.id < bindparam("after_id")),
    ),
}
