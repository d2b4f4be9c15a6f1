"""The drain loop: claim the best ready step, run it in a free lane, again until none is left; then wait for a bell."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from app.domain.resident import Resident
from app.domain.run import Step
from app.errors import Unavailable
from app.settings import Settings
from app.store import steps
from app.store.steps import Claimer
from app.store.store import Store
from workers.lanes import Lanes
from workers.link import Busy, Drained, Elsewhere, Holds, WorkerSide
from workers.memory import Memory, Told
from workers.run_step import StepRunner

logger = logging.getLogger(__name__)

# How often an idle worker looks without having been called: a doorbell may get lost.
_LOOK_S = 1.0
# The same while it waits for room, or while a step is left to another worker only for so long.
_LOOK_SOON_S = 0.25


class Drain:
    """One worker's loop over the class of work that it can do. Its steps run side by side, one in each lane.

    A lane is a thread that waits for its step's end; whether one step more is worth holding, the worker's memory says.
    """

    def __init__(self, store: Store, runner: StepRunner, link: WorkerSide, worker_id: str, settings: Settings) -> None:
        self._store = store
        self._runner = runner
        self._link = link
        self._worker_id = worker_id
        self._settings = settings
        self._told = Told()
        self._waits_for_room = False
        self._expected: str | None = None  # the checkpoint that is read ahead
        self._passed_on: str | None = None  # the step that another worker was told of last

    def serve(self, work_class: str, lanes: Lanes, memory: Memory) -> None:
        """Works until the parent is gone or says to leave; returns when every step that it holds has ended.

        A single lane is this thread.
        """
        with ThreadPoolExecutor(lanes.count, thread_name_prefix="lane") as threads:
            while not self._over():
                beside = lanes.wait_for_room()
                held = self._tell_residents(memory)
                self._waits_for_room = not memory.has_room()
                claimer = self._claimer(work_class, held, beside, lanes.few)
                if self._waits_for_room:
                    self._look_ahead(claimer, memory)
                    self._link.wait_for_work(_LOOK_SOON_S)
                    continue
                step = self._claim(claimer)
                if step is None:
                    self._wait(claimer)
                    continue
                lanes.enter(step)
                if lanes.count == 1:
                    self._work(step, lanes)
                else:
                    memory.until_inside(threads.submit(self._work, step, lanes))

    def _work(self, step: Step, lanes: Lanes) -> None:
        self._link.tell(Busy(step.id, step.attempt, step.kind))
        try:
            self._runner.run(step)
        except Exception:  # a thread of the pool would keep it to itself
            logger.exception("a lane failed", extra={"action": "lane_failed"})
        finally:
            self._link.finished(step)
            lanes.leave(step)
            if self._waits_for_room:
                self._link.look_again()

    def _over(self) -> bool:
        return self._link.parent_gone.is_set() or self._link.leaving.is_set()

    def _tell_residents(self, memory: Memory) -> tuple[Resident, ...]:
        held = memory.residents()
        if self._told.is_news(held):
            self._link.tell(Holds(held))
        return held

    def _claimer(self, work_class: str, held: tuple[Resident, ...], beside: int, few: int) -> Claimer:
        return Claimer(
            worker_id=self._worker_id,
            work_class=work_class,
            lease_s=self._settings.lease_s,
            resident=tuple(each.checkpoint for each in held),
            patience_s=self._settings.affinity_wait_s,
            beside=beside,
            few=few,
            max_attempts=self._settings.max_attempts,
        )

    def _look_ahead(self, claimer: Claimer, memory: Memory) -> None:
        """While there is no room, the memory may prepare for what comes next."""
        with suppress(Unavailable):
            cold = self._store.read_blocking(lambda tx: steps.next_cold(tx, claimer))
            if cold is not None and cold != self._expected:
                memory.expect(cold)
            self._expected = cold

    def _wait(self, claimer: Claimer) -> None:
        """Until there may be work again. What is left to another worker may have been rung for here alone."""
        left = self._left_to_another(claimer)
        if left is not None and left != self._passed_on:
            self._link.tell(Elsewhere(claimer.work_class))
        self._passed_on = left
        self._link.tell(Drained())
        if not self._over():
            self._link.wait_for_work(_LOOK_S if left is None else _LOOK_SOON_S)

    def _left_to_another(self, claimer: Claimer) -> str | None:
        """A worker of an embedded server has no other beside it."""
        if self._settings.is_embedded or not claimer.paints:
            return None
        try:
            return self._store.read_blocking(lambda tx: steps.first_elsewhere(tx, claimer))
        except Unavailable:
            return None

    def _claim(self, claimer: Claimer) -> Step | None:
        if self._over():
            return None
        try:
            # A claim that is lost with the database's last moments is simply made again: it waits for no disk.
            return self._store.commit_blocking(lambda tx: steps.claim(tx, claimer), lasting=False)
        except Unavailable as error:
            logger.warning("claim failed", extra={"action": "claim_failed", "error": error.message})
            return None
