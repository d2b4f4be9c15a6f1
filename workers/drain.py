"""The drain loop: claim the best ready step, run it in a free lane, again until none is left; then wait for a bell."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from app.domain.run import Step
from app.errors import Unavailable
from app.settings import Settings
from app.store import steps
from app.store.store import Store
from workers.lanes import Lanes
from workers.link import Busy, Drained, WorkerSide
from workers.run_step import StepRunner

logger = logging.getLogger(__name__)

# How often an idle worker looks without having been called: a doorbell may get lost.
_LOOK_S = 1.0


class Drain:
    """One worker's loop over the class of work that it can do. Its steps run side by side, one in each lane."""

    def __init__(self, store: Store, runner: StepRunner, link: WorkerSide, worker_id: str, settings: Settings) -> None:
        self._store = store
        self._runner = runner
        self._link = link
        self._worker_id = worker_id
        self._settings = settings

    def serve(self, work_class: str, lanes: Lanes, resident: Callable[[], str | None]) -> None:
        """Works until the parent is gone or says to leave; returns when every step that it holds has ended.

        `resident` names the checkpoint whose steps cost no loading. A single lane is this thread.
        """
        with ThreadPoolExecutor(lanes.count, thread_name_prefix="lane") as threads:
            while not self._over():
                lanes.take()
                step = self._claim(work_class, resident())
                if step is None:
                    lanes.give()
                    self._link.tell(Drained())
                    if not self._over():
                        self._link.wait_for_work(_LOOK_S)
                elif lanes.count == 1:
                    self._work(step, lanes)
                else:
                    threads.submit(self._work, step, lanes)

    def _work(self, step: Step, lanes: Lanes) -> None:
        self._link.tell(Busy(step.id, step.attempt, step.kind))
        try:
            self._runner.run(step)
        except Exception:  # a thread of the pool would keep it to itself
            logger.exception("a lane failed", extra={"action": "lane_failed"})
        finally:
            self._link.finished(step)
            lanes.give(done=True)

    def _over(self) -> bool:
        return self._link.parent_gone.is_set() or self._link.leaving.is_set()

    def _claim(self, work_class: str, resident: str | None) -> Step | None:
        if self._over():
            return None
        lease_s = self._settings.lease_s
        try:
            # A claim that is lost with the database's last moments is simply made again: it waits for no disk.
            return self._store.commit_blocking(
                lambda tx: steps.claim(tx, self._worker_id, work_class, resident, lease_s), lasting=False
            )
        except Unavailable as error:
            logger.warning("claim failed", extra={"action": "claim_failed", "error": error.message})
            return None
