"""What can be seen from outside: how much waits, runs and has ended. Cheap reads, each over a small partial index.

Nothing here looks at a table of which most is history. `ix_steps_ready` and `ix_steps_running` hold the work at hand,
`ix_runs_open` the runs under way, `ix_runs_waited` those that have waited for a worker and have ended.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import ColumnClause, Double, String, bindparam, cast, func, literal_column, null, select, union_all

from app.domain.run import RunStatus, StepStatus
from app.store.engine import Tx
from app.store.schema import apps, now_s, runs, steps, tasks

_READY, _RUNNING = StepStatus.READY.value, StepStatus.RUNNING.value
_HOUR_S = 3600.0
_MOST_ROWS = 50


class Work(msgspec.Struct, frozen=True):
    """Steps of one class that need one checkpoint ("" for none). `oldest_s`: how long the first has been ready."""

    work_class: str
    checkpoint: str
    steps: int
    oldest_s: float = 0.0


class Counts(msgspec.Struct, frozen=True):
    """How things stand, by one statement.

    `ended` counts, by status, the runs that waited for a worker and ended within the last hour; `expired` the steps
    whose lease has run out and that nobody has given back yet.
    """

    running: int
    ended: dict[str, int]
    waiting: list[Work]
    held: list[Work]
    expired: int


class HeldStep(msgspec.Struct, frozen=True):
    """A step that a worker holds. `lease_left_s` is negative once the lease has run out."""

    run_id: str
    kind: str
    title: str
    checkpoint: str | None
    attempt: int
    worker_id: str
    lease_left_s: float


class EndedRun(msgspec.Struct, frozen=True):
    """A run that has ended, `ago_s` before now, after `took_s`."""

    run_id: str
    app: str
    dialect: str
    status: str
    took_s: float
    ago_s: float


def _text(value: str) -> ColumnClause[str]:
    return literal_column(f"'{value}'", String)


_nothing = cast(null(), String)
_no_time = cast(null(), Double)
# A subquery of its own: PostgreSQL looks at a clock once, so it can begin in the index there.
_an_hour_ago = select(now_s() - _HOUR_S).scalar_subquery()
_counts = union_all(
    select(_text("running").label("what"), _nothing, _nothing, func.count(), _no_time).where(
        runs.c.status == RunStatus.RUNNING.value
    ),
    select(_text("ended"), runs.c.status, _nothing, func.count(), _no_time)
    .where(runs.c.deadline_at.is_not(None), runs.c.finished_at.is_not(None), runs.c.finished_at > _an_hour_ago)
    .group_by(runs.c.status),
    select(_text("waiting"), steps.c.work_class, steps.c.checkpoint, func.count(), now_s() - func.min(steps.c.ready_at))
    .where(steps.c.status == _READY)
    .group_by(steps.c.work_class, steps.c.checkpoint),
    select(_text("held"), steps.c.work_class, steps.c.checkpoint, func.count(), _no_time)
    .where(steps.c.status == _RUNNING)
    .group_by(steps.c.work_class, steps.c.checkpoint),
    select(_text("expired"), _nothing, _nothing, func.count(), _no_time).where(
        steps.c.status == _RUNNING, steps.c.lease_expires_at < now_s()
    ),
)
_held_steps = (
    select(
        steps.c.run_id,
        steps.c.kind,
        steps.c.title,
        steps.c.checkpoint,
        steps.c.attempt,
        steps.c.worker_id,
        steps.c.lease_expires_at - now_s(),
    )
    .where(steps.c.status == _RUNNING)
    .order_by(steps.c.lease_expires_at)
    .limit(_MOST_ROWS)
)
_ENDED = (runs.c.id, runs.c.task_id, runs.c.app_id, runs.c.status, runs.c.created_at, runs.c.finished_at)
_waited = (
    select(*_ENDED)
    .where(runs.c.deadline_at.is_not(None), runs.c.finished_at.is_not(None))
    .order_by(runs.c.finished_at.desc())
    .limit(bindparam("most"))
    .subquery()
)
# Ids sort by birth, and a run that needed no worker ended as it was born: the last of those are among the newest.
_newest = select(*_ENDED).order_by(runs.c.id.desc()).limit(_MOST_ROWS).subquery()
_both = select(_waited).union(select(_newest).where(_newest.c.finished_at.is_not(None))).subquery()
_last_ended = (
    select(
        _both.c.id,
        apps.c.name,
        tasks.c.dialect,
        _both.c.status,
        _both.c.finished_at - _both.c.created_at,
        now_s() - _both.c.finished_at,
    )
    .join(apps, apps.c.id == _both.c.app_id)
    .join(tasks, tasks.c.id == _both.c.task_id)
    .order_by(_both.c.finished_at.desc(), _both.c.id.desc())
    .limit(bindparam("most"))
)


def counts(tx: Tx) -> Counts:
    """How things stand: one statement, so that its numbers belong to one moment."""
    rows = tx.rows(_counts)

    def work(what: str) -> list[Work]:
        found = [Work(row[1] or "", row[2] or "", row[3], max(0.0, row[4] or 0.0)) for row in rows if row[0] == what]
        return sorted(found, key=lambda each: (each.work_class, each.checkpoint))

    return Counts(
        running=sum(row[3] for row in rows if row[0] == "running"),
        ended={row[1]: row[3] for row in rows if row[0] == "ended"},
        waiting=work("waiting"),
        held=work("held"),
        expired=sum(row[3] for row in rows if row[0] == "expired"),
    )


def held_steps(tx: Tx) -> list[HeldStep]:
    """The steps that workers hold, the one whose lease ends first at the top; at most 50."""
    return [HeldStep(*row) for row in tx.rows(_held_steps)]


def last_ended(tx: Tx, most: int) -> list[EndedRun]:
    """The runs that ended last, at most so many. Of those that needed no worker only the newest 50 are looked at."""
    return [EndedRun(*row) for row in tx.rows(_last_ended, {"most": most})]
