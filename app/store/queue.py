"""The queue as a whole: how much of a caller's work is under way or waits, in which order, and how fast it moves."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Integer, Select, bindparam, func, literal_column, select

from app.domain.run import RunStatus, StepStatus
from app.store.engine import Tx
from app.store.schema import apps, keys, now_s, runs, steps
from app.store.steps import FIRST_BY_PRIORITY, IN_TIME, READY_AND_KEY, THEN_BY_KEY

_READY, _RUNNING = StepStatus.READY.value, StepStatus.RUNNING.value
_LATELY = 20  # steps of a class
_LAST_RUNS = 50


class Load(msgspec.Struct, frozen=True):
    """What there is of an app and a key: runs under way, steps that wait. Each is counted up to a bound only."""

    app_active: int
    key_active: int
    key_queued: int
    queued: int


class Waiting(msgspec.Struct, frozen=True):
    """A step that waits for a worker. `served_at`: when one last took a step of its key; 0: never, None: not known."""

    run_id: str
    key_id: str
    work_class: str
    priority: int
    served_at: float | None


class Pace(msgspec.Struct, frozen=True):
    """How fast the steps of a class end: what one took lately, in seconds (None: unknown), and how many are held."""

    took_s: float | None
    held: int

    @property
    def gap_s(self) -> float | None:
        """How long it is from one end of a step to the next, when somebody always waits."""
        return None if self.took_s is None else self.took_s / max(1, self.held)


_app_row = select(apps.c.id).where(apps.c.id == bindparam("of_app")).with_for_update(key_share=True)
_key_row = select(keys.c.id).where(keys.c.id == bindparam("of_key")).with_for_update(key_share=True)


def _at_most(rows: Select[Any], bound: str) -> ColumnElement[int]:
    """How many of the rows there are; counting stops at the bound."""
    return select(func.count()).select_from(rows.limit(bindparam(bound)).subquery()).scalar_subquery()


_ONE = literal_column("1", Integer)
_open_runs = select(_ONE).select_from(runs).where(runs.c.status == RunStatus.RUNNING.value)
_ready_steps = select(_ONE).select_from(steps).where(steps.c.status == _READY)
_load = select(
    _at_most(_open_runs.where(runs.c.app_id == bindparam("of_app")), "most_app_active"),
    _at_most(_open_runs.where(runs.c.key_id == bindparam("of_key")), "most_key_active"),
    _at_most(_ready_steps.where(steps.c.key_id == bindparam("of_key")), "most_key_queued"),
    _at_most(_ready_steps, "most_queued"),
)
_in_line = (
    select(steps.c.run_id, steps.c.key_id, steps.c.work_class, steps.c.priority, THEN_BY_KEY)
    .select_from(READY_AND_KEY)
    .where(steps.c.status == _READY, IN_TIME)
)
_waiting = _in_line.order_by(FIRST_BY_PRIORITY, THEN_BY_KEY, steps.c.ready_at, steps.c.run_id)
_waiting_of_run = _in_line.where(steps.c.run_id == bindparam("run_id"))
_held = select(steps.c.work_class, func.count()).where(steps.c.status == _RUNNING).group_by(steps.c.work_class)
# Runs that were stopped say nothing of how long a step takes.
_last_runs = (
    select(runs.c.id)
    .where(
        runs.c.deadline_at.is_not(None),
        runs.c.finished_at.is_not(None),
        runs.c.status != RunStatus.STOPPED.value,
    )
    .order_by(runs.c.finished_at.desc())
    .limit(_LAST_RUNS)
    .subquery()
)
_took = (
    select(steps.c.work_class, steps.c.took_s)
    .join(_last_runs, _last_runs.c.id == steps.c.run_id)
    .where(steps.c.took_s.is_not(None))
    .order_by(steps.c.finished_at.desc())
)
_clock = select(now_s())


def lock_app(tx: Tx, app_id: str) -> None:
    """Who counts the app's runs next waits until this transaction ends, and counts what it has written."""
    tx.row(_app_row, {"of_app": app_id})


def lock_key(tx: Tx, key_id: str) -> None:
    """The same for a key. An app is locked before its key, and neither after anything else."""
    tx.row(_key_row, {"of_key": key_id})


def load_of(tx: Tx, app_id: str, key_id: str, most: Load) -> Load:
    """How much there is, each counted up to `most`: what has the bound 0 costs nothing."""
    bounds = {f"most_{name}": getattr(most, name) for name in Load.__struct_fields__}
    row = tx.row(_load, {"of_app": app_id, "of_key": key_id} | bounds)
    assert row is not None
    return Load(*row)


def waiting_steps(tx: Tx) -> list[Waiting]:
    """Every step that waits: by priority, then by the key that was served the longest ago, then by age."""
    return [Waiting(*row) for row in tx.rows(_waiting)]


def waiting_of_run(tx: Tx, run_id: str) -> list[Waiting]:
    """The run's steps that wait."""
    return [Waiting(*row) for row in tx.rows(_waiting_of_run, {"run_id": run_id})]


def paces(tx: Tx) -> dict[str, Pace]:
    """By class of work: the mean of its last 20 steps (those of the last 50 runs), and how many are held now."""
    took: dict[str, list[float]] = {}
    for work_class, took_s in tx.rows(_took):
        took.setdefault(work_class, []).append(took_s)
    held = {row[0]: int(row[1]) for row in tx.rows(_held)}
    return {name: Pace(_mean(took.get(name, [])[:_LATELY]), held.get(name, 0)) for name in {*took, *held}}


def clock_s(tx: Tx) -> float:
    """The database's clock, in seconds since 1970."""
    row = tx.row(_clock)
    assert row is not None
    return float(row[0])


def _mean(numbers: list[float]) -> float | None:
    return sum(numbers) / len(numbers) if numbers else None
