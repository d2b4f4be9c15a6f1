"""The work of the workers: steps that are ready, who holds which, and outcomes, written by the holder alone.

Only a step that needs a worker has a row here. What became of a run's steps is in its events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Integer,
    Update,
    and_,
    bindparam,
    case,
    func,
    insert,
    or_,
    select,
    union,
    union_all,
    update,
)

from app.domain.event import Tick
from app.domain.run import GIVEN_BACK, WORKER_LOST, NewWork, Run, Step, StepStatus, Timings
from app.store.engine import Tx
from app.store.rows import STEP_COLUMNS, from_json, step_from, step_row, to_json, to_json_or_null
from app.store.schema import is_one_of, keys, now_s, residents, runs, steps, tasks

READY, RUNNING, STOPPED = StepStatus.READY.value, StepStatus.RUNNING.value, StepStatus.STOPPED.value

# How much later a step with another checkpoint may have become ready and still be taken after one that
# needs no loading. Age wins in the end, so no checkpoint starves.
RESIDENT_BONUS_S = 5.0
_ANY_NUMBER = 2**31 - 1

_now = select(now_s()).scalar_subquery()  # PostgreSQL looks at the clock once, not for each row

# What was asked for, bounded by what the key has, as that stands when the step becomes ready.
_priority = (
    select(case((tasks.c.priority < keys.c.priority, tasks.c.priority), else_=keys.c.priority))
    .select_from(keys.join(tasks, tasks.c.id == bindparam("of_task")))
    .where(keys.c.id == bindparam("key_id"))
    .scalar_subquery()
)
_run_ends_at = select(runs.c.deadline_at).where(runs.c.id == bindparam("of_run")).scalar_subquery()
_insert_step = insert(steps).values(
    {name: bindparam(name) for name in (*Step.__struct_fields__, "checkpoint", "key_id", "arguments")}
    | {
        "ready_at": now_s() + bindparam("delay_s"),
        "priority": func.coalesce(_priority, 0),
        "expires_at": _run_ends_at,
    }
)

# Round robin over keys within a priority: the key whose step was taken the longest ago is next.
READY_AND_KEY = steps.outerjoin(keys, keys.c.id == steps.c.key_id)  # a step whose key is gone is done, too
FIRST_BY_PRIORITY = steps.c.priority.desc()
THEN_BY_KEY = func.coalesce(keys.c.served_at, 0.0)
IN_TIME = or_(steps.c.expires_at.is_(None), steps.c.expires_at > _now)

_is_for_claimer = (
    steps.c.status == READY,
    steps.c.work_class == bindparam("work_class"),
    steps.c.ready_at <= _now,
    IN_TIME,
)

# What other workers have in memory, or load for the step that they hold: a table of a few rows and an index of a few.
_others = steps.alias("others")
_elsewhere = union_all(
    select(residents.c.checkpoint).where(residents.c.worker_id != bindparam("claimer")),
    select(_others.c.checkpoint).where(
        _others.c.status == RUNNING, _others.c.worker_id != bindparam("claimer"), _others.c.checkpoint.is_not(None)
    ),
)
_is_resident = is_one_of(steps.c.checkpoint, bindparam("resident"))
_waits_for_another = and_(
    steps.c.checkpoint.in_(_elsewhere), ~_is_resident, steps.c.ready_at > _now - bindparam("patience_s")
)
# How many steps a worker may do while it does this one: see `workers.lanes`. The best step is found without regard to
# that, and then taken or not: so a worker that is too busy for it takes no other one either, and will have room for it.
_is_last_try = and_(
    or_(*(steps.c.error_type == name for name in GIVEN_BACK)),
    steps.c.attempt + 1 >= bindparam("max_attempts"),
)
_fits_beside = or_(
    bindparam("beside", type_=Integer) == 0,
    case((_is_last_try, 1), (steps.c.error_type == WORKER_LOST, bindparam("few", type_=Integer)), else_=_ANY_NUMBER)
    > bindparam("beside", type_=Integer),
)
_costs_no_loading_s = case((_is_resident, RESIDENT_BONUS_S), else_=0.0)


def _claim_of(conditions: tuple[ColumnElement[bool], ...], ready_at: ColumnElement[float]) -> Update:
    """The statement that takes the best step of those that fulfil the conditions; `ready_at` is what its age counts
    from."""
    best = (
        select(steps.c.run_id, steps.c.id)
        .select_from(READY_AND_KEY)
        .where(*_is_for_claimer, *conditions)
        .order_by(FIRST_BY_PRIORITY, THEN_BY_KEY, ready_at, steps.c.run_id)
        .limit(1)
        .with_for_update(skip_locked=True, of=steps)
        .cte("best")
    )
    taken = {"status": RUNNING, "attempt": steps.c.attempt + 1, "worker_id": bindparam("claimer")}
    since = {"lease_expires_at": now_s() + bindparam("lease_s"), "claimed_at": now_s()}
    return (
        update(steps)
        .where(steps.c.run_id == best.c.run_id, steps.c.id == best.c.id, steps.c.status == READY, _fits_beside)
        .values(taken | since)
        .returning(*STEP_COLUMNS, steps.c.key_id)
    )


_claim = _claim_of((), steps.c.ready_at)
_claim_near = _claim_of(
    (or_(steps.c.checkpoint.is_(None), ~_waits_for_another),), steps.c.ready_at - _costs_no_loading_s
)
_next_cold = (
    select(steps.c.checkpoint)
    .select_from(READY_AND_KEY)
    .where(*_is_for_claimer, steps.c.checkpoint.is_not(None), ~_is_resident, ~_waits_for_another)
    .order_by(FIRST_BY_PRIORITY, THEN_BY_KEY, steps.c.ready_at, steps.c.run_id)
    .limit(1)
)
_first_elsewhere = (
    select(steps.c.id).where(*_is_for_claimer, _waits_for_another).order_by(steps.c.ready_at, steps.c.run_id).limit(1)
)
# Nobody waits for a key here: whoever holds its row is setting the same, or about to accept a run of it.
_key_to_serve = (
    select(keys.c.id).where(keys.c.id == bindparam("served")).with_for_update(skip_locked=True, key_share=True)
)
_serve = update(keys).where(keys.c.id.in_(_key_to_serve)).values(served_at=now_s())
_held = (
    steps.c.run_id == bindparam("held_run"),
    steps.c.id == bindparam("held_step"),
    steps.c.status == RUNNING,
    steps.c.attempt == bindparam("held_attempt"),
)
_OUTCOME = ("status", "handle", "outputs", "process_data", "metadata", "error", "error_type", "finished_at")
_finish = (
    update(steps)
    .where(*_held)
    .values(
        {name: bindparam(f"new_{name}") for name in _OUTCOME}
        | {
            "lease_expires_at": None,
            "took_s": now_s() - steps.c.claimed_at,
            "timings": bindparam("new_timings"),
        }
    )
)
_back_to_ready = (
    update(steps)
    .where(*_held)
    .values(
        status=READY,
        worker_id=None,
        lease_expires_at=None,
        ready_at=now_s() + bindparam("delay_s"),
        claimed_at=None,
        progress_step=None,
        progress_steps=None,
        progress_eta_s=None,
        error=bindparam("new_error"),
        error_type=bindparam("new_error_type"),
    )
)
_renew = (
    update(steps)
    .where(steps.c.worker_id == bindparam("holder"), steps.c.status == RUNNING)
    .values(lease_expires_at=now_s() + bindparam("lease_s"))
    .returning(steps.c.id)
)
_of_ticked = steps.c.id == bindparam("ticked")
_renew_with_progress = _renew.values(
    {
        name: case((_of_ticked, bindparam(f"new_{name}")), else_=steps.c[name])
        for name in ("progress_step", "progress_steps", "progress_eta_s")
    }
)
_stop = (
    update(steps)
    .where(steps.c.run_id == bindparam("of_run"), or_(steps.c.status == READY, steps.c.status == RUNNING))
    .values(status=STOPPED, finished_at=bindparam("now"), lease_expires_at=None)
)
_stop_open = _stop.returning(steps.c.id)
_stop_one = _stop.where(steps.c.id == bindparam("of_step"))
_held_by = select(*STEP_COLUMNS).where(steps.c.worker_id == bindparam("worker_id"), steps.c.status == RUNNING)
_held_by_any = select(*STEP_COLUMNS).where(steps.c.status == RUNNING)
_holders = union(
    select(steps.c.worker_id).where(steps.c.status == RUNNING, steps.c.worker_id.is_not(None)),
    select(residents.c.worker_id),
)
_is_held = select(steps.c.id).where(*_held)
_assignment = (
    select(steps.c.arguments, runs.c.app_id, runs.c.workflow_id, runs.c.user, tasks.c.traceparent)
    .join(runs, runs.c.id == steps.c.run_id)
    .join(tasks, tasks.c.id == runs.c.task_id)
    .where(steps.c.run_id == bindparam("of_run"), steps.c.id == bindparam("of_step"))
)
_expired = _held_by_any.where(steps.c.lease_expires_at < now_s()).limit(50)
_unclaimed = (
    select(steps.c.run_id, steps.c.title, steps.c.work_class)
    .where(steps.c.status == READY, steps.c.ready_at < now_s() - bindparam("since_s"))
    .limit(50)
)
_slow = (
    select(steps.c.run_id, steps.c.title)
    .where(steps.c.status == RUNNING, steps.c.claimed_at < now_s() - bindparam("since_s"))
    .limit(50)
)
_waiting = (
    select(steps.c.work_class)
    .where(steps.c.status == READY, steps.c.ready_at < now_s() - bindparam("since_s"))
    .distinct()
)


class Assignment(msgspec.Struct, frozen=True):
    """What the worker of a step has to know besides the step."""

    arguments: Mapping[str, Any]
    app_id: str
    workflow_id: str
    user: str
    traceparent: str | None


def insert_steps(tx: Tx, run: Run, new: Iterable[NewWork]) -> None:
    """Puts steps of the run where workers find them."""
    of_run = {"of_run": run.id, "of_task": run.task_id, "key_id": run.key_id, "delay_s": 0.0}
    for work in new:
        hidden = to_json(work.arguments) if work.arguments else None
        tx.put(_insert_step, step_row(work.step) | of_run | {"checkpoint": work.checkpoint, "arguments": hidden})


def find_assignment(tx: Tx, step: Step) -> Assignment | None:
    """None when the step is gone."""
    row = tx.row(_assignment, {"of_run": step.run_id, "of_step": step.id})
    return Assignment(from_json(row[0]) or {}, *row[1:]) if row else None


class Claimer(msgspec.Struct, frozen=True):
    """A worker that asks for a step, with the checkpoints that it has in memory.

    `patience_s` is how long a step is left to another worker that has its checkpoint in memory, or is loading it.
    `beside` is how many steps it does already, `few` beside how many it may do one that was lost with its worker.
    """

    worker_id: str
    work_class: str
    lease_s: float
    resident: tuple[str, ...] = ()
    patience_s: float = 0.0
    beside: int = 0
    few: int = 1
    max_attempts: int = 1

    @property
    def paints(self) -> bool:
        """Only pictures need a checkpoint."""
        return self.work_class == "gpu"

    def values(self) -> dict[str, object]:
        near = {"resident": to_json(self.resident), "patience_s": self.patience_s} if self.paints else {}
        return {"claimer": self.worker_id, "work_class": self.work_class, **near}


def claim(tx: Tx, claimer: Claimer) -> Step | None:
    """Gives the best ready step of the class to the worker, or None. The new attempt number is the worker's fence.

    None, too, where that step is one to be done beside fewer others than the worker has.
    Two that claim at the same moment may both take a step of the same key: another key waits for one step a worker.
    """
    company = {"beside": claimer.beside, "few": claimer.few, "max_attempts": claimer.max_attempts}
    values = claimer.values() | company | {"lease_s": claimer.lease_s}
    row = tx.row(_claim_near if claimer.paints else _claim, values)
    if row is None:
        return None
    tx.put(_serve, {"served": row[-1]})
    return step_from(row[:-1])


def first_elsewhere(tx: Tx, claimer: Claimer) -> str | None:
    """The oldest step that is left to another worker for now, because that one has its checkpoint."""
    row = tx.row(_first_elsewhere, claimer.values()) if claimer.paints else None
    return row[0] if row else None


def next_cold(tx: Tx, claimer: Claimer) -> str | None:
    """The checkpoint that the claimer will have to load first for the steps that wait, if for any."""
    row = tx.row(_next_cold, claimer.values()) if claimer.paints else None
    return row[0] if row else None


def renew_leases(tx: Tx, worker_id: str, lease_s: float, tick: Tick | None = None) -> set[str]:
    """Renews every lease of the worker; returns the ids of the steps that it still holds.

    `tick` is how far one of them has come: it is kept for readers who hear no ticks.
    """
    values = {"holder": worker_id, "lease_s": lease_s}
    if tick is None:
        return {row[0] for row in tx.rows(_renew, values)}
    told = {"ticked": tick.step_id, "new_progress_step": tick.step, "new_progress_steps": tick.steps}
    return {row[0] for row in tx.rows(_renew_with_progress, values | told | {"new_progress_eta_s": tick.eta_s})}


def finish(tx: Tx, step: Step, timings: Timings | None = None) -> bool:
    """Writes the outcome of the attempt `step.attempt`; False when it has lost the step: nothing is written."""
    new = {f"new_{name}": getattr(step, name) for name in _OUTCOME}
    new["new_status"] = step.status.value
    for name in ("outputs", "process_data", "metadata"):
        new[f"new_{name}"] = to_json_or_null(getattr(step, name))
    new["new_timings"] = to_json_or_null(timings)
    return tx.run(_finish, _fence(step) | new) > 0


def give_back(tx: Tx, step: Step, delay_s: float, error: str, error_type: str) -> bool:
    """Makes a held step ready again after `delay_s`; False when this attempt holds it no more."""
    values = {"delay_s": delay_s, "new_error": error, "new_error_type": error_type}
    return tx.run(_back_to_ready, _fence(step) | values) > 0


def is_held(tx: Tx, step: Step) -> bool:
    """Whether the attempt `step.attempt` still has its step."""
    return tx.row(_is_held, _fence(step)) is not None


def _fence(step: Step) -> dict[str, object]:
    """What names a held attempt: whoever has lost it changes no row."""
    return {"held_run": step.run_id, "held_step": step.id, "held_attempt": step.attempt}


def stop_open(tx: Tx, run_id: str, now: float) -> list[str]:
    """Ends every step of the run that waits or runs; returns their ids. Their workers' late outcomes are refused."""
    return [row[0] for row in tx.rows(_stop_open, {"of_run": run_id, "now": now})]


def stop(tx: Tx, step: Step, now: float) -> str:
    """Ends a step that waits or runs, in a run that goes on; returns its id. A late outcome of it is refused."""
    tx.put(_stop_one, {"of_run": step.run_id, "of_step": step.id, "now": now})
    return step.id


def held_steps(tx: Tx, worker_id: str | None = None) -> list[Step]:
    """The steps that the worker holds; without one, every step that any worker holds."""
    rows = tx.rows(_held_by_any) if worker_id is None else tx.rows(_held_by, {"worker_id": worker_id})
    return [step_from(row) for row in rows]


def holders(tx: Tx) -> list[str]:
    """The workers that hold steps, or have checkpoints in memory."""
    return [row[0] for row in tx.rows(_holders)]


def expired_steps(tx: Tx) -> list[Step]:
    """Steps whose lease has run out, by the database's clock."""
    return [step_from(row) for row in tx.rows(_expired)]


def unclaimed_steps(tx: Tx, since_s: float) -> list[tuple[str, str, str]]:
    """(run, title, class of work) of steps that no worker has taken for longer than `since_s`."""
    return [(row[0], row[1], row[2]) for row in tx.rows(_unclaimed, {"since_s": since_s})]


def slow_steps(tx: Tx, since_s: float) -> list[tuple[str, str]]:
    """(run, title) of steps whose current attempt has taken longer than `since_s`."""
    return [(row[0], row[1]) for row in tx.rows(_slow, {"since_s": since_s})]


def waiting_classes(tx: Tx, since_s: float) -> list[str]:
    """Classes of work in which something has been ready for longer than `since_s`: their doorbell may be lost."""
    return [row[0] for row in tx.rows(_waiting, {"since_s": since_s})]
