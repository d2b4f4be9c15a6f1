"""The drain loop: claim the best ready step, run it, again until none is left; then wait for the doorbell."""

from __future__ import annotations

import logging
from collections.abc import Callable

from app.domain.run import Step
from app.errors import Unavailable
from app.settings import Settings
from app.store import steps
from app.store.store import Store
from workers.link import Busy, WorkerSide
from workers.run_step import StepRunner

logger = logging.getLogger(__name__)

# How often an idle worker looks without having been called: a doorbell may get lost.
_LOOK_S = 1.0


class Drain:
    """One worker's loop over one class of work."""

    def __init__(self, store: Store, runner: StepRunner, link: WorkerSide, worker_id: str, settings: Settings) -> None:
        self._store = store
        self._runner = runner
        self._link = link
        self._worker_id = worker_id
        self._settings = settings

    def serve(self, work_class: str, resident: Callable[[], str | None]) -> None:
        """Works until the parent is gone. `resident` names the checkpoint whose steps cost no loading."""
        while not self._link.parent_gone.is_set():
            while (step := self._claim(work_class, resident())) is not None:
                self._link.tell(Busy(step.id, step.kind))
                try:
                    self._runner.run(step)
                finally:
                    self._link.finished(step.id)
            self._link.wait_for_work(_LOOK_S)

    def _claim(self, work_class: str, resident: str | None) -> Step | None:
        if self._link.parent_gone.is_set():
            return None
        try:
            return self._store.commit_blocking(
                lambda tx: steps.claim(tx, self._worker_id, work_class, resident, self._settings.lease_s)
            )
        except Unavailable as error:
            logger.warning("claim failed", extra={"action": "claim_failed", "error": error.message})
            return None
