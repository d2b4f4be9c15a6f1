"""The work of the workers: steps that are ready, who holds which, and outcomes, written by the holder alone.

Only a step that needs a worker has a row here. What became of a run's steps is in its events.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import bindparam, case, func, insert, or_, select, update

from app.domain.event import Tick
from app.domain.run import Step, StepStatus, Timings
from app.store.engine import Tx
from app.store.rows import STEP_COLUMNS, step_from, step_row, to_json_or_null
from app.store.schema import keys, now_s, runs, steps, tasks

READY, RUNNING, STOPPED = StepStatus.READY.value, StepStatus.RUNNING.value, StepStatus.STOPPED.value

# How much later a step with another checkpoint may have become ready and still be taken after one that
# needs no loading. Age wins in the end, so no checkpoint starves.
RESIDENT_BONUS_S = 5.0

# A step's priority is its key's, as it stands when the step becomes ready.
_priority = (
    select(keys.c.priority)
    .select_from(runs.join(tasks, tasks.c.id == runs.c.task_id).join(keys, keys.c.id == tasks.c.key_id))
    .where(runs.c.id == bindparam("of_run"))
    .scalar_subquery()
)
_insert_step = insert(steps).values(
    {name: bindparam(name) for name in (*Step.__struct_fields__, "checkpoint")}
    | {"ready_at": now_s() + bindparam("delay_s"), "priority": func.coalesce(_priority, 0)}
)
_best_ready = (
    select(steps.c.run_id, steps.c.node_id)
    .where(steps.c.status == READY, steps.c.work_class == bindparam("work_class"), steps.c.ready_at <= now_s())
    .order_by(
        steps.c.priority.desc(),
        steps.c.ready_at - case((steps.c.checkpoint == bindparam("resident"), RESIDENT_BONUS_S), else_=0.0),
        steps.c.run_id,
    )
    .limit(1)
    .with_for_update(skip_locked=True)
    .cte("best")
)
_claim = (
    update(steps)
    .where(steps.c.run_id == _best_ready.c.run_id, steps.c.node_id == _best_ready.c.node_id, steps.c.status == READY)
    .values(
        status=RUNNING,
        attempt=steps.c.attempt + 1,
        worker_id=bindparam("claimer"),
        lease_expires_at=now_s() + bindparam("lease_s"),
        claimed_at=now_s(),
    )
    .returning(*STEP_COLUMNS)
)
_held = (
    steps.c.run_id == bindparam("held_run"),
    steps.c.node_id == bindparam("held_node"),
    steps.c.status == RUNNING,
    steps.c.attempt == bindparam("held_attempt"),
)
_OUTCOME = ("status", "handle", "outputs", "process_data", "error", "error_type", "finished_at")
_finish = (
    update(steps)
    .where(*_held)
    .values(
        {name: bindparam(f"new_{name}") for name in _OUTCOME}
        | {"lease_expires_at": None, "timings": bindparam("new_timings")}
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
_stop_open = (
    update(steps)
    .where(steps.c.run_id == bindparam("of_run"), or_(steps.c.status == READY, steps.c.status == RUNNING))
    .values(status=STOPPED, finished_at=bindparam("now"), lease_expires_at=None)
    .returning(steps.c.id)
)
_held_by = select(*STEP_COLUMNS).where(steps.c.worker_id == bindparam("worker_id"), steps.c.status == RUNNING)
_held_by_any = select(*STEP_COLUMNS).where(steps.c.status == RUNNING)
_holders = select(steps.c.worker_id).where(steps.c.status == RUNNING).distinct()
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


def insert_steps(tx: Tx, new: Iterable[tuple[Step, str | None]]) -> None:
    """Puts steps where workers find them, each with the checkpoint that it needs, if any."""
    for step, checkpoint in new:
        row = step_row(step) | {"checkpoint": checkpoint, "delay_s": 0.0, "of_run": step.run_id}
        tx.put(_insert_step, row)


def claim(tx: Tx, worker_id: str, work_class: str, resident: str | None, lease_s: float) -> Step | None:
    """Gives the best ready step of the class to the worker, or None. The new attempt number is the worker's fence."""
    values = {"claimer": worker_id, "work_class": work_class, "resident": resident, "lease_s": lease_s}
    rows = tx.rows(_claim, values)
    return step_from(rows[0]) if rows else None


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
    new["new_outputs"], new["new_process_data"] = map(to_json_or_null, (step.outputs, step.process_data))
    new["new_timings"] = to_json_or_null(timings)
    return tx.run(_finish, _fence(step) | new) > 0


def give_back(tx: Tx, step: Step, delay_s: float, error: str, error_type: str) -> bool:
    """Makes a held step ready again after `delay_s`; False when this attempt holds it no more."""
    values = {"delay_s": delay_s, "new_error": error, "new_error_type": error_type}
    return tx.run(_back_to_ready, _fence(step) | values) > 0


def _fence(step: Step) -> dict[str, object]:
    """What names a held attempt: whoever has lost it changes no row."""
    return {"held_run": step.run_id, "held_node": step.node_id, "held_attempt": step.attempt}


def stop_open(tx: Tx, run_id: str, now: float) -> list[str]:
    """Ends every step of the run that waits or runs; returns their ids. Their workers' late outcomes are refused."""
    return [row[0] for row in tx.rows(_stop_open, {"of_run": run_id, "now": now})]


def held_steps(tx: Tx, worker_id: str | None = None) -> list[Step]:
    """The steps that the worker holds; without one, every step that any worker holds."""
    rows = tx.rows(_held_by_any) if worker_id is None else tx.rows(_held_by, {"worker_id": worker_id})
    return [step_from(row) for row in rows]


def holders(tx: Tx) -> list[str]:
    """The workers that hold steps."""
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
