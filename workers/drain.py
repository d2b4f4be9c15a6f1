"""The drain loop: claim the best ready step, run it, again until none is left; then wait for the doorbell."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from app.domain.run import Step
from app.errors import Unavailable
from app.settings import Settings
from app.store import steps
from app.store.store import Store
from workers.link import Busy, Drained, WorkerSide
from workers.run_step import StepRunner

logger = logging.getLogger(__name__)

# How often an idle worker looks without having been called: a doorbell may get lost.
_LOOK_S = 1.0


class Drain:
    """One worker's loop over the classes of work that it can do."""

    def __init__(self, store: Store, runner: StepRunner, link: WorkerSide, worker_id: str, settings: Settings) -> None:
        self._store = store
        self._runner = runner
        self._link = link
        self._worker_id = worker_id
        self._settings = settings

    def serve(self, work_classes: Sequence[str], resident: Callable[[], str | None]) -> None:
        """Works until the parent is gone or says to leave; takes from the first class that has something.

        `resident` names the checkpoint whose steps cost no loading.
        """
        while not self._over():
            while (step := self._claim_any(work_classes, resident())) is not None:
                self._link.tell(Busy(step.id, step.attempt, step.kind))
                try:
                    self._runner.run(step)
                finally:
                    self._link.finished(step)
            self._link.tell(Drained())
            if not self._over():
                self._link.wait_for_work(_LOOK_S)

    def _over(self) -> bool:
        return self._link.parent_gone.is_set() or self._link.leaving.is_set()

    def _claim_any(self, work_classes: Sequence[str], resident: str | None) -> Step | None:
        return next(filter(None, (self._claim(work_class, resident) for work_class in work_classes)), None)

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
