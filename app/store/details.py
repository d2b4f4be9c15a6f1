"""Reading a run with everything that can be told of it, in at most five statements, whatever is asked."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
from sqlalchemy import bindparam, select

from app.domain.artifact import Artifact
from app.domain.detail import Asked, Detail, Part, StepDetail, Work, step_details
from app.domain.run import Run, Step, StepStatus, Timings
from app.store import runs as run_rows
from app.store.engine import Row, Tx
from app.store.files import artifacts_of
from app.store.rows import RUN_COLUMNS, run_from
from app.store.schema import artifacts, keys, now_s, runs, steps, tasks

_timings = msgspec.json.Decoder(Timings)
_BY_STEP = frozenset({Part.STEPS, Part.TIMINGS, Part.PROGRESS})

_run_and_time = select(now_s(), *RUN_COLUMNS).where(runs.c.id == bindparam("run_id"))
_WORK = {"step_id": "id"} | {name: name for name in Work.__struct_fields__ if name != "step_id"}
_work = select(*(steps.c[column] for column in _WORK.values())).where(steps.c.run_id == bindparam("run_id"))
_made_of_app = (
    select(*(artifacts.c[name] for name in Artifact.__struct_fields__))
    .join(runs, runs.c.id == artifacts.c.run_id)
    .where(artifacts.c.id == bindparam("artifact_id"), runs.c.app_id == bindparam("app_id"))
)
_asked = (
    select(tasks.c.dialect, tasks.c.response_mode, tasks.c.priority, runs.c.deadline_s, keys.c.label)
    .select_from(tasks.join(runs, runs.c.task_id == tasks.c.id).outerjoin(keys, keys.c.id == tasks.c.key_id))
    .where(tasks.c.id == bindparam("task_id"))
)


def find_detail(tx: Tx, app_id: str, run_id: str, parts: Collection[Part]) -> Detail | None:
    """The run of the app with the parts that are asked for; None when the app has no such run."""
    row = tx.row(_run_and_time, {"run_id": run_id})
    run = run_from(row[1:]) if row else None
    if row is None or run is None or run.app_id != app_id:
        return None
    now: float = row[0]
    needs_steps = not _BY_STEP.isdisjoint(parts)
    found_steps = _steps(tx, run, now) if needs_steps or Part.ARTIFACTS in parts else ()
    made = artifacts_of(tx, run_id) if Part.ARTIFACTS in parts else ()
    asked = tx.row(_asked, {"task_id": run.task_id}) if Part.TASK in parts else None
    return Detail(run, frozenset(parts), now, found_steps, tuple(made), Asked(*asked) if asked else None)


def find_artifact_of_app(tx: Tx, app_id: str, artifact_id: str) -> Artifact | None:
    """An artifact of one of the app's runs."""
    row = tx.row(_made_of_app, {"app_id": app_id, "artifact_id": artifact_id})
    return Artifact(*row) if row else None


def _steps(tx: Tx, run: Run, now: float) -> tuple[StepDetail, ...]:
    told: dict[str, Step] = {}
    for event in run_rows.events_after(tx, run.id, 0):
        if event.step is not None:
            told[event.step.id] = event.step
    work = {each.step_id: each for each in map(_work_from, tx.rows(_work, {"run_id": run.id}))}
    return step_details(run, told, work, now)


def _work_from(row: Row) -> Work:
    named = dict(zip(_WORK, row, strict=True))
    named["status"] = StepStatus(named["status"])
    named["timings"] = _timings.decode(named["timings"]) if named["timings"] else None
    return Work(**named)
