"""How long what a process remembers of keys, apps and workflows may be trusted, and what time it is for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from app import clock
from app.errors import Unavailable
from app.store import accounts
from app.store.store import Store

logger = logging.getLogger(__name__)

_LOOK_S = 0.2
_SURE_S = 1.0
_PATIENCE_S = 8.0  # as long as a commit waits for a database that restarts

NOTICED_S = _SURE_S + 0.1
"""So long after a commit every process has seen it, or trusts its memory no more."""


class Revision:
    """Looks at the revision all the time; while it stands still, what was read before holds.

    A look that shows the same revision makes its process sure for a second, counted from the look's beginning. A
    process whose looks are overdue (the database is away, the machine was busy) is not sure: whoever asks waits for the
    next look first. So nobody trusts a memory for longer than `NOTICED_S` after a change was committed.
    """

    def __init__(self, store: Store, forget: Callable[[], None]) -> None:
        """`forget` is called when the revision has changed."""
        self._store = store
        self._forget = forget
        self._looking: asyncio.Task[None] | None = None
        self.number = -1
        self._seen_from_s = float("-inf")
        self.sure_until_s = float("-inf")
        """On this process's clock (`clock.monotonic`)."""
        self.database_ahead_s = 0.0
        """What the database's clock shows, less what `clock.monotonic` does."""

    async def watch(self) -> None:
        """Looks five times a second, until cancelled."""
        while True:
            try:
                await self._look()
            except Unavailable:
                pass  # whoever has to be sure looks again, and tells
            except Exception:
                logger.exception("upkeep failed", extra={"action": "look_at_revision"})
            await asyncio.sleep(_LOOK_S)

    async def be_sure(self) -> None:
        """Returns once the process is sure, or a look that began after this call has shown how things stand.

        Raises Unavailable when the database has been away for 8 s.
        """
        asked_s = clock.monotonic()
        patience_until_s = asked_s + _PATIENCE_S
        while clock.monotonic() > self.sure_until_s and self._seen_from_s < asked_s:
            try:
                await self._look()
            except Unavailable:
                if clock.monotonic() > patience_until_s:
                    raise
                await asyncio.sleep(_LOOK_S)

    async def _look(self) -> None:
        """One look at a time, for all who need one; it goes on when one of them is cancelled."""
        looking = self._looking
        if looking is None:
            looking = self._looking = asyncio.get_running_loop().create_task(self._read())
            looking.add_done_callback(self._looked)
        await asyncio.shield(looking)

    def _looked(self, looking: asyncio.Task[None]) -> None:
        self._looking = None
        if not looking.cancelled():
            looking.exception()  # heard of, even if nobody waits for it any more

    async def _read(self) -> None:
        began_s = clock.monotonic()
        number, now_s = await self._store.read(accounts.find_revision)
        if number != self.number:
            self.number = number
            self._forget()
        # Taken from the beginning: what ends by the database's clock ends a moment early here, never late.
        self.database_ahead_s = now_s - began_s
        self._seen_from_s = began_s
        self.sure_until_s = began_s + _SURE_S
