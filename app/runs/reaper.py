"""Upkeep, in any process: leases that ran out, doorbells that got lost, runs that take too long. One method each."""

from __future__ import annotations

import asyncio
import logging

from app.domain.run import Retry, RunStatus
from app.queue.doorbell import Doorbell
from app.runs.advance import Advance
from app.runs.service import Announcer
from app.settings import Settings
from app.store import runs, steps
from app.store.store import Store

logger = logging.getLogger(__name__)

# A ready step that nobody took for so long is rung for again: its first hint may be lost.
_RING_AGAIN_S = 2.0


class Reaper:
    """Finds what others left behind. Every change that it makes is guarded, so two reapers do no harm."""

    def __init__(
        self, store: Store, advance: Advance, announcer: Announcer, doorbell: Doorbell, settings: Settings
    ) -> None:
        self._store = store
        self._advance = advance
        self._announcer = announcer
        self._doorbell = doorbell
        self._settings = settings

    async def watch(self) -> None:
        """Does every duty once a beat, until cancelled. A duty that fails is tried again with the next beat."""
        while True:
            for duty in (self.give_back_expired, self.end_overdue, self.ring_again, self.shorten_log):
                try:
                    await duty()
                except Exception:
                    logger.exception("upkeep failed", extra={"action": duty.__name__})
            await asyncio.sleep(self._settings.reaper_beat_s)

    async def give_back_expired(self) -> None:
        """A worker that has been silent for a whole lease has lost its step."""
        for held in await self._store.read(steps.expired_steps):
            why = Retry("The worker was lost.", "worker_lost")
            notice = await self._store.commit(lambda tx, step=held, why=why: self._advance.give_back(tx, step, why))  # type: ignore[misc]
            if notice is not None:
                logger.warning("lease expired", extra={"action": "lease_expired", "run": held.run_id, "step": held.id})
                self._announcer.tally.count("lease_expired")
                if notice.rings:
                    self._announcer.tally.count("given_back", "lease_expired")
            self._announcer.tell(notice)

    async def end_overdue(self) -> None:
        """A run past its deadline fails and says so."""
        error = f"The run took longer than {self._settings.run_timeout_s:g} s."
        for run_id in await self._store.read(runs.overdue_runs):
            notice = await self._store.commit(
                lambda tx, overdue=run_id: self._advance.end_run(tx, overdue, RunStatus.FAILED, error)  # type: ignore[misc]
            )
            self._announcer.tell(notice)

    async def ring_again(self) -> None:
        """Ready rows are the outbox: whatever nobody has taken is rung for again."""
        for work_class in await self._store.read(lambda tx: steps.waiting_classes(tx, _RING_AGAIN_S)):
            self._doorbell.ring(work_class)
            self._announcer.tally.count("rung_again", work_class)

    async def shorten_log(self) -> None:
        """Commits only append to the database's log; here it is worked off, where nobody waits for it."""
        await self._store.tidy()
