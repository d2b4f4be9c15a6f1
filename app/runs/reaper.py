"""Upkeep, in any process: leases that ran out, doorbells that got lost, runs that take too long. One method each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from app.domain.run import WORKER_LOST, Retry, RunStatus, Step
from app.errors import Unavailable
from app.queue.doorbell import Doorbell
from app.runs.advance import Advance
from app.runs.service import Announcer
from app.settings import Settings
from app.store import forms, residents, runs, steps
from app.store.locks import Locks, Suspects
from app.store.store import Store

logger = logging.getLogger(__name__)

# A ready step that nobody took for so long is rung for again: its first hint may be lost.
_RING_AGAIN_S = 2.0
_LIFE_BEAT_S = 0.35


class Reaper:
    """Finds what others left behind. One process does it at a time, to save work: every change is guarded anyway."""

    def __init__(
        self,
        store: Store,
        advance: Advance,
        announcer: Announcer,
        doorbell: Doorbell,
        locks: Locks,
        settings: Settings,
    ) -> None:
        self._store = store
        self._advance = advance
        self._announcer = announcer
        self._doorbell = doorbell
        self._settings = settings
        self._locks = locks
        self._suspects = Suspects()

    async def watch(self) -> None:
        """Does every duty once a beat, until cancelled. A duty that fails is tried again with the next beat."""
        duties = (self.give_back_expired, self.end_overdue, self.expire_forms, self.ring_again, self.shorten_log)
        await asyncio.gather(
            self._repeat(self._settings.reaper_beat_s, duties),
            self._repeat(_LIFE_BEAT_S, (self.give_back_of_the_dead, self.end_past_deadline)),
        )

    async def _repeat(self, beat_s: float, duties: tuple[Callable[[], Awaitable[None]], ...]) -> None:
        while True:
            for duty in duties:
                try:
                    if duty == self.shorten_log or await asyncio.to_thread(self._locks.lead):
                        await duty()
                except Unavailable as error:
                    logger.warning("upkeep put off", extra={"action": duty.__name__, "error": error.message})
                except Exception:
                    logger.exception("upkeep failed", extra={"action": duty.__name__})
            await asyncio.sleep(beat_s)

    async def give_back_of_the_dead(self) -> None:
        """A worker whose sign of life is gone at two looks has died: its steps need not wait for their leases."""
        holders = await self._store.read(steps.holders)
        dead = await asyncio.to_thread(self._locks.dead_workers, holders) if holders else set()
        for worker_id in self._suspects.surely(dead):
            for held in await self._store.read(lambda tx, of=worker_id: steps.held_steps(tx, of)):  # type: ignore[misc]
                await self._give_back(held, "worker_dead")
            await self._store.commit(lambda tx, of=worker_id: residents.forget_residents(tx, of))  # type: ignore[misc]

    async def give_back_expired(self) -> None:
        """A worker that has been silent for a whole lease has lost its step, and nobody waits for its memory."""
        expired = await self._store.read(steps.expired_steps)
        if expired:
            await self._store.commit(residents.forget_silent)
        for held in expired:
            await self._give_back(held, "lease_expired")

    async def _give_back(self, held: Step, action: str) -> None:
        why = Retry("The worker was lost.", WORKER_LOST)
        notice = await self._store.commit(lambda tx: self._advance.give_back(tx, held, why))
        if notice is not None:
            logger.warning("step given back", extra={"action": action, "run": held.run_id, "step": held.id})
            self._announcer.tally.count("lease_expired")
            if notice.rings:
                self._announcer.tally.count("given_back", action)
        self._announcer.tell(notice)

    async def end_past_deadline(self) -> None:
        """A run past its caller's deadline is stopped; one that took longer than any run may has failed."""
        for run_id, deadline_s in await self._store.read(runs.overdue_runs):
            if deadline_s is not None:
                why = f"Deadline exceeded: the run did not end within {deadline_s:g} s."
                await self._end(run_id, RunStatus.STOPPED, why, "deadline_exceeded")
            else:
                why = f"The run took longer than {self._settings.run_timeout_s:g} s."
                await self._end(run_id, RunStatus.FAILED, why, "run_timeout")

    async def expire_forms(self) -> None:
        """A form that nobody has filled in in time: its run goes on without."""
        for form in await self._store.read(forms.expired_forms):
            self._announcer.tell(await self._store.commit(lambda tx, of=form: self._advance.expire_form(tx, of)))  # type: ignore[misc]

    async def end_overdue(self) -> None:
        """A run with a step past a limit fails and says which: of waiting for a worker, or of one attempt."""
        queued_s, step_s = self._settings.queue_timeout_s, self._settings.step_timeout_s
        for run_id, title, work_class in await self._store.read(lambda tx: steps.unclaimed_steps(tx, queued_s)):
            why = f"The step '{title}' waited longer than {queued_s:g} s for a worker of the class {work_class}."
            await self._end(run_id, RunStatus.FAILED, why, "queue_timeout")
        for run_id, title in await self._store.read(lambda tx: steps.slow_steps(tx, step_s)):
            await self._end(
                run_id, RunStatus.FAILED, f"The step '{title}' ran longer than {step_s:g} s.", "step_timeout"
            )

    async def _end(self, run_id: str, status: RunStatus, error: str, code: str) -> None:
        notice = await self._store.commit(lambda tx: self._advance.end_run(tx, run_id, status, error, code))
        self._announcer.tell(notice)

    async def ring_again(self) -> None:
        """Ready rows are the outbox: whatever nobody has taken is rung for again."""
        for work_class in await self._store.read(lambda tx: steps.waiting_classes(tx, _RING_AGAIN_S)):
            self._doorbell.ring(work_class)
            self._announcer.tally.count("rung_again", work_class)

    async def shorten_log(self) -> None:
        """Commits only append to the database's log; here it is worked off, where nobody waits for it."""
        await self._store.tidy()
