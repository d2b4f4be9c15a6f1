"""Who follows a run hears of news at once, by wake-ups, or within a second, by one look into the store for all."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from app import clock
from app.errors import Unavailable
from app.events.wakeups import LocalWakeups, Note, Wake
from app.store import lists
from app.store.store import Store

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often the store is asked, in one query, which of the followed runs have moved on. Wake-ups may get lost."""


class Follower(Protocol):
    """Somebody who wants to know when a run moves on."""

    run_id: str
    seq: int  # the number of the last fact that it knows of

    def hear(self, note: Note) -> None: ...


class Lookout:
    """Tells followers. Belongs to the event loop; it looks only while somebody follows something."""

    def __init__(self, store: Store, wakeups: LocalWakeups) -> None:
        self._store = store
        self._wakeups = wakeups
        self._followers: set[Follower] = set()
        self._task: asyncio.Task[None] | None = None
        self.looked_s = float("-inf")

    def add(self, follower: Follower) -> None:
        self._followers.add(follower)
        self._wakeups.attend(follower.run_id, follower.hear)
        if self._task is None:
            self._task = asyncio.create_task(self._look_again_and_again())

    def remove(self, follower: Follower) -> None:
        self._followers.discard(follower)
        self._wakeups.leave(follower.run_id, follower.hear)

    async def _look_again_and_again(self) -> None:
        try:
            await asyncio.sleep(LOOK_S)
            while self._followers:
                try:
                    await self._look()
                except Unavailable:
                    pass  # whoever needs the store finds out, and waits for it
                except Exception:
                    logger.exception("a look failed", extra={"action": "look_failed"})
                await asyncio.sleep(LOOK_S)
        finally:
            self._task = None

    async def _look(self) -> None:
        began_s = clock.monotonic()
        asked = {follower.run_id for follower in self._followers}
        standing = await self._store.read(lambda tx: lists.last_numbers(tx, asked))
        for follower in tuple(self._followers):
            if standing.get(follower.run_id, 0) > follower.seq:
                follower.hear(Wake(follower.run_id))
        self.looked_s = began_s
