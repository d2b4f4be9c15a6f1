"""Where runs stand that wait for a worker: read rarely, reckoned for all of them at once, told to their followers."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Iterable

import msgspec

from app import clock
from app.domain.event import QueuePosition
from app.errors import Unavailable
from app.events.wakeups import LocalWakeups
from app.store import queue
from app.store.engine import Tx
from app.store.queue import Pace, Waiting
from app.store.store import Store

logger = logging.getLogger(__name__)

_FRESH_S = 0.5
_TIMES_AS_LONG = 20  # a picture that took long to read is good for so many times as long
_OLD_S = 1.0
_TELL_S = 1.0


class Place(msgspec.Struct, frozen=True):
    """`queue_position` 1 is next. `estimated_start`, in seconds since 1970, is None while nothing is known of the pace.

    The order is that of the claims; that a worker may begin with what needs no other checkpoint is left out of it.
    """

    queue_position: int
    estimated_start: int | None


class Picture:
    """The queue as it stood at one moment, in one class of work after the other."""

    def __init__(self, waiting: Iterable[Waiting], paces: dict[str, Pace], at_s: float) -> None:
        self._paces = paces
        self._at_s = at_s
        self._queues: dict[str, _Queue] = {}
        self._places: dict[str, tuple[str, int]] = {}  # by run: class of work, position
        for step in waiting:
            self._queues.setdefault(step.work_class, _Queue()).add(step)
        for work_class, waits in self._queues.items():
            for position, run_id in enumerate(waits.in_order(), 1):
                self._places.setdefault(run_id, (work_class, position))

    def place_of(self, run_id: str) -> Place | None:
        """None for a run that did not wait then."""
        place = self._places.get(run_id)
        return None if place is None else self._reckoned(*place)

    def join(self, step: Waiting) -> Place:
        """Lines up a step that has come since."""
        position = self._queues.setdefault(step.work_class, _Queue()).join(step)
        self._places[step.run_id] = (step.work_class, position)
        return self._reckoned(step.work_class, position)

    def _reckoned(self, work_class: str, position: int) -> Place:
        pace = self._paces.get(work_class)
        if pace is None or pace.gap_s is None:
            return Place(position, None)
        return Place(position, math.ceil(self._at_s + position * pace.gap_s))


class _Queue:
    """The steps of one class. Added in the order of the store; taken in turns, as claims take them."""

    def __init__(self) -> None:
        self._levels: dict[int, dict[str, list[str]]] = {}  # priority → key → runs, the best first
        self._served_at: dict[str, float] = {}

    def add(self, step: Waiting) -> None:
        self._served_at[step.key_id] = step.served_at
        self._levels.setdefault(step.priority, {}).setdefault(step.key_id, []).append(step.run_id)

    def in_order(self) -> Iterable[str]:
        """The runs as they will be taken."""
        turns: dict[str, int] = {}  # keys that have had a turn: when the last was
        taken = 0
        for priority in sorted(self._levels, reverse=True):
            level = self._levels[priority]
            level = self._levels[priority] = dict(sorted(level.items(), key=lambda each: turns.get(each[0], 0)))
            line = deque((key_id, deque(run_ids)) for key_id, run_ids in level.items())
            while line:
                key_id, run_ids = line.popleft()
                taken += 1
                turns[key_id] = taken
                yield run_ids.popleft()
                if run_ids:
                    line.append((key_id, run_ids))

    def join(self, step: Waiting) -> int:
        """The position of one more step, behind its key's others: the other keys have as many turns, or one less."""
        self.add(step)
        level, served_at = self._levels[step.priority], self._served_at
        turn = len(level[step.key_id])
        position = turn
        for key_id, run_ids in level.items():
            if key_id != step.key_id:
                position += min(len(run_ids), turn if served_at[key_id] <= step.served_at else turn - 1)
        above = (keys.values() for priority, keys in self._levels.items() if priority > step.priority)
        return position + sum(len(run_ids) for each in above for run_ids in each)


class QueueView:
    """The queue for one process's readers: read at most twice a second, and never while nobody asks."""

    def __init__(self, store: Store, wakeups: LocalWakeups) -> None:
        self._store = store
        self._wakeups = wakeups
        self._picture = Picture((), {}, 0.0)
        self._fresh_until_s = -_OLD_S
        self._reading: asyncio.Task[None] | None = None

    async def place_of(self, run_id: str) -> Place | None:
        """Where the run stands; None when it does not wait for a worker, or when the database can't be asked."""
        picture = await self._current()
        known = picture.place_of(run_id)
        if known is not None:
            return known
        try:  # it is not waiting, or it came a moment ago
            new = await self._store.read(lambda tx: queue.waiting_of_run(tx, run_id))
        except Unavailable:
            return None
        return min((picture.join(step) for step in new), key=lambda each: each.queue_position, default=None)

    async def watch(self) -> None:
        """Tells whoever follows a run that waits where it stands, once a second; until cancelled."""
        try:
            while True:
                await asyncio.sleep(_TELL_S)
                try:
                    await self._tell()
                except Exception:
                    logger.exception("positions not told", extra={"action": "positions"})
        finally:
            if self._reading is not None:
                self._reading.cancel()

    async def _tell(self) -> None:
        followed = self._wakeups.attended()
        if not followed:
            return
        picture = await self._current()
        for run_id in followed:
            place = picture.place_of(run_id)
            if place is not None:
                self._wakeups.publish(QueuePosition(run_id, place.queue_position, place.estimated_start))

    async def _current(self) -> Picture:
        """The last picture while it is fresh; a while longer it is good enough not to wait for the next."""
        age_s = clock.monotonic() - self._fresh_until_s
        if age_s >= 0:
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read())
            if age_s >= _OLD_S:
                await asyncio.shield(self._reading)
        return self._picture

    async def _read(self) -> None:
        began_s = clock.monotonic()
        try:
            self._picture = await self._store.read(_picture)
        except Unavailable as error:
            logger.warning("positions put off", extra={"action": "positions", "error": error.message})
            self._picture = Picture((), {}, 0.0)
        took_s = clock.monotonic() - began_s
        self._fresh_until_s = began_s + max(_FRESH_S, _TIMES_AS_LONG * took_s)


def _picture(tx: Tx) -> Picture:
    return Picture(queue.waiting_steps(tx), queue.paces(tx), queue.clock_s(tx))
