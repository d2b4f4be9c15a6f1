"""Tasks, runs and their events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, func, insert, literal_column, or_, select, union_all, update

from app.domain.event import Entry, Event
from app.domain.run import Run, RunStatus, Task, is_terminal
from app.store.engine import Tx
from app.store.rows import RUN_COLUMNS, events_from, run_from, run_row, to_json
from app.store.schema import events, now_s, runs, tasks

_insert_task = insert(tasks)
_insert_events = insert(events)
_NOT_YET = {"deadline_at", "deadline_s", "updated_at", "paused_at"}  # what only a run has that goes on
_insert_ended_run = insert(runs).values({c.name: bindparam(c.name) for c in runs.c if c.name not in _NOT_YET})
_insert_run = insert(runs).values(
    {c.name: bindparam(c.name) for c in runs.c if c.name not in _NOT_YET}
    | {"deadline_at": now_s() + bindparam("timeout_s"), "deadline_s": bindparam("deadline_s"), "updated_at": now_s()}
)
_COUNTERS = ("last_seq", "total_steps", "exceptions_count", "total_tokens")
_END = ("status", "outputs", "error", "error_code", "finished_at")
_is_open = or_(runs.c.status == RunStatus.RUNNING.value, runs.c.status == RunStatus.PAUSED.value)
_save_run = update(runs).where(runs.c.id == bindparam("run_id"), _is_open)
_moved = {"updated_at": now_s()}
_count_run = _save_run.values(_moved | {name: bindparam(f"new_{name}") for name in _COUNTERS})
_finish_run = _save_run.values(_moved | {name: bindparam(f"new_{name}") for name in (*_COUNTERS, *_END)})
_this_run = update(runs).where(runs.c.id == bindparam("run_id"))
_pause_run = _this_run.values(status=RunStatus.PAUSED.value, paused_at=now_s())
# What it had left of its time when it paused it has left now.
_resume_run = _this_run.values(
    status=RunStatus.RUNNING.value,
    deadline_at=runs.c.deadline_at + (now_s() - func.coalesce(runs.c.paused_at, now_s())),
    paused_at=None,
)
_run_by_id = select(*RUN_COLUMNS).where(runs.c.id == bindparam("run_id"))
_run_to_change = _run_by_id.with_for_update()
_run_by_task = select(*RUN_COLUMNS).join(tasks, tasks.c.run_id == runs.c.id).where(tasks.c.id == bindparam("task_id"))
_overdue = (
    select(runs.c.id, runs.c.deadline_s)
    .where(runs.c.status == RunStatus.RUNNING.value, runs.c.deadline_at < now_s())
    .limit(50)
)
_events_after = union_all(
    select(literal_column("1").label("first_seq"), runs.c.first_entries.label("entries")).where(
        runs.c.id == bindparam("run_id"), runs.c.first_last_seq > bindparam("after")
    ),
    select(events.c.first_seq, events.c.entries).where(
        events.c.run_id == bindparam("run_id"), events.c.last_seq > bindparam("after")
    ),
).order_by("first_seq")


def insert_run(
    tx: Tx, task: Task, run: Run, entries: Sequence[Entry], timeout_s: float, deadline_s: float | None = None
) -> None:
    """The task and its run with the beginning of its log. It has a deadline, unless it has ended already.

    `deadline_s` is the caller's; it is stored when it comes before the `timeout_s` that every run has.
    """
    tx.put_record(_insert_task, task)
    row = run_row(run)
    row["first_entries"], row["first_last_seq"] = to_json(entries), run.last_seq
    if is_terminal(run.status):
        tx.put(_insert_ended_run, row)
    else:
        own_s = deadline_s if deadline_s is not None and deadline_s <= timeout_s else None
        row["timeout_s"], row["deadline_s"] = timeout_s if own_s is None else own_s, own_s
        tx.put(_insert_run, row)


def insert_entries(tx: Tx, run: Run, new: Sequence[Entry]) -> None:
    """Appends what this transaction adds to the log of a run whose `last_seq` counts it already."""
    first_seq = run.last_seq - len(new) + 1
    tx.put(
        _insert_events, {"run_id": run.id, "first_seq": first_seq, "last_seq": run.last_seq, "entries": to_json(new)}
    )


def save_run(tx: Tx, run: Run) -> None:
    """Writes a run that `lock_run` gave as not ended and that has moved on since. An ended run keeps its end."""
    row: dict[str, Any] = {"run_id": run.id} | {f"new_{name}": getattr(run, name) for name in _COUNTERS}
    if not is_terminal(run.status):
        tx.put(_count_run, row)
        return
    end = {"new_status": run.status.value, "new_outputs": to_json(run.outputs), "new_error": run.error}
    end["new_error_code"] = run.error_code
    tx.put(_finish_run, row | end | {"new_finished_at": run.finished_at})


def mark_paused(tx: Tx, run_id: str) -> None:
    """The run's time stands still from now on. Its lock is held."""
    tx.put(_pause_run, {"run_id": run_id})


def mark_resumed(tx: Tx, run_id: str) -> None:
    """Its time goes on, from where it was. Its lock is held."""
    tx.put(_resume_run, {"run_id": run_id})


def lock_run(tx: Tx, run_id: str) -> Run | None:
    """The run, held until the transaction ends: whoever else wants to move it on waits, then reads what we wrote."""
    row = tx.row(_run_to_change, {"run_id": run_id})
    return run_from(row) if row else None


def find_run(tx: Tx, run_id: str) -> Run | None:
    row = tx.row(_run_by_id, {"run_id": run_id})
    return run_from(row) if row else None


def find_run_of_task(tx: Tx, task_id: str) -> Run | None:
    row = tx.row(_run_by_task, {"task_id": task_id})
    return run_from(row) if row else None


def overdue_runs(tx: Tx) -> list[tuple[str, float | None]]:
    """(id, the caller's own deadline if it is that) of running runs past their deadline, by the database's clock."""
    return [(row[0], row[1]) for row in tx.rows(_overdue)]


def events_after(tx: Tx, run_id: str, after: int) -> list[Event]:
    """The run's facts with a number above `after`, in order."""
    rows = tx.rows(_events_after, {"run_id": run_id, "after": after})
    return [event for row in rows for event in events_from(run_id, row) if event.seq > after]
