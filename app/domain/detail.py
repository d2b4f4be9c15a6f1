"""A run with everything that can be told of it: what its steps did, where their time went, how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from app.domain.artifact import Artifact
from app.domain.run import Run, Step, StepStatus, Timings, is_terminal


class Part(StrEnum):
    """What can be asked of a run beyond itself."""

    STEPS = "steps"
    ARTIFACTS = "artifacts"
    TIMINGS = "timings"
    PROGRESS = "progress"
    TASK = "task"


class Work(msgspec.Struct, frozen=True):
    """How a worker's step stands, as its row says. Its facts tell of starts, losses and ends, the row of all between.

    `ready_at` and `claimed_at` are of the latest attempt, by the database's clock; `claimed_at` is None while it waits.
    """

    step_id: str
    node_id: str
    status: StepStatus
    attempt: int
    error: str | None
    error_type: str | None
    finished_at: float | None
    checkpoint: str | None
    worker_id: str | None
    ready_at: float | None
    claimed_at: float | None
    timings: Timings | None
    progress_step: int | None
    progress_steps: int | None
    progress_eta_s: float | None


class Asked(msgspec.Struct, frozen=True):
    """What is known of the request that made the run. The name is the key's, as it is called now."""

    dialect: str
    response_mode: str
    priority: int | None
    deadline_s: float | None
    key_name: str | None


class StepTimes(msgspec.Struct, frozen=True):
    """Seconds of one step. What an attempt's worker measures is None until that attempt has ended."""

    queued_s: float
    load_s: float | None
    run_s: float | None
    upload_s: float | None
    total_s: float


class StepDetail(msgspec.Struct, frozen=True):
    """A step as its facts tell it, brought up to date with its row, if a worker does it."""

    step: Step
    work: Work | None
    now_s: float

    @property
    def attempts(self) -> int:
        """How often it was begun."""
        return self.step.attempt if self.work else 1

    @property
    def started_at(self) -> float | None:
        return self.work.claimed_at if self.work else self.step.created_at

    @property
    def seeds(self) -> list[int] | None:
        """The seeds of its pictures, in their order; None for a step that paints none."""
        inputs: Mapping[str, Any] = self.step.inputs or {}
        seed, n = inputs.get("seed"), inputs.get("n")
        if self.work is None or not isinstance(seed, int) or not isinstance(n, int):
            return None
        return list(range(seed, seed + n))

    @property
    def times(self) -> StepTimes:
        ended_at = self.step.finished_at or self.now_s
        total_s = max(0.0, ended_at - self.step.created_at)
        if self.work is None:
            return StepTimes(0.0, 0.0, total_s, 0.0, total_s)
        ready_at, measured = self.work.ready_at or self.step.created_at, self.work.timings
        queued_s = max(0.0, (self.work.claimed_at or ended_at) - ready_at)
        if measured is None:
            return StepTimes(queued_s, None, None, None, total_s)
        return StepTimes(queued_s, measured.load_s, measured.run_s, measured.upload_s, total_s)


class Progress(msgspec.Struct, frozen=True):
    """How far a run under way has come. `step` of `steps` are those of the node that runs, or waits, at `node_id`."""

    steps_done: int
    steps_known: int
    node_id: str | None
    step: int | None
    steps: int | None
    eta_s: float | None


class Detail(msgspec.Struct, frozen=True):
    """A run and what was asked of it, all of one moment: `now_s`, by the database's clock."""

    run: Run
    parts: frozenset[Part]
    now_s: float
    steps: tuple[StepDetail, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    asked: Asked | None = None

    @property
    def times(self) -> StepTimes:
        """The sums over the steps, as far as they are known; the total is the run's own, from its acceptance on."""
        each = [step.times for step in self.steps]
        total_s = max(0.0, (self.run.finished_at or self.now_s) - self.run.created_at)
        return StepTimes(
            sum(times.queued_s for times in each),
            sum(times.load_s or 0.0 for times in each),
            sum(times.run_s or 0.0 for times in each),
            sum(times.upload_s or 0.0 for times in each),
            total_s,
        )

    @property
    def waits(self) -> bool:
        """True while nothing of it can go on before a worker has come."""
        return bool(self._at_work) and all(each.step.status is StepStatus.READY for each in self._at_work)

    @property
    def _at_work(self) -> list[StepDetail]:
        """What has not ended, without the containers that only wait for what is inside them."""
        return [each for each in self.steps if each.step.finished_at is None and each.step.work_class is not None]

    @property
    def progress(self) -> Progress | None:
        """None once the run has ended."""
        if is_terminal(self.run.status):
            return None
        open_steps = [each for each in self.steps if each.step.finished_at is None]
        done, known = len(self.steps) - len(open_steps), len(self.steps)
        if not open_steps:
            return Progress(done, known, None, None, None, None)
        running = [each for each in self._at_work if each.step.status is StepStatus.RUNNING]
        at = (running or self._at_work or open_steps)[0]
        if not running or at.work is None:
            return Progress(done, known, at.step.node_id, None, None, None)
        work = at.work
        return Progress(done, known, at.step.node_id, work.progress_step, work.progress_steps, work.progress_eta_s)


def step_details(run: Run, told: Mapping[str, Step], work: Mapping[str, Work], now_s: float) -> tuple[StepDetail, ...]:
    """The steps in the order of their index: `told` by their last facts, `work` by their rows, both by step."""
    steps = (StepDetail(_current(run, step, work.get(step.id)), work.get(step.id), now_s) for step in told.values())
    return tuple(sorted(steps, key=lambda each: each.step.index))


def _current(run: Run, step: Step, work: Work | None) -> Step:
    if work is not None:
        step = msgspec.structs.replace(
            step,
            status=work.status,
            attempt=work.attempt,
            error=work.error,
            error_type=work.error_type,
            finished_at=work.finished_at,
        )
    if step.finished_at is None and is_terminal(run.status):  # its run ended before anybody could begin it
        return msgspec.structs.replace(step, status=StepStatus.STOPPED, finished_at=run.finished_at)
    return step
