"""Which users an app has seen: noted in memory, written now and then, never while a request waits for it."""

from __future__ import annotations

import asyncio
import logging
from uuid import UUID

from app.domain.request import Caller
from app.errors import EndUserNotFound, Unavailable
from app.store import end_users
from app.store.end_users import EndUser
from app.store.store import Store

logger = logging.getLogger(__name__)

_BEAT_S = 1.0
_MOST_KNOWN = 100_000


class EndUsers:
    """The end-users of all apps. One that a process noted in its last second may be lost with it, until its next run;
    while the run is among the app's last, it is found all the same."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: set[tuple[str, str]] = set()
        self._new: set[tuple[str, str]] = set()

    def note(self, app_id: str, user: str) -> None:
        """The app has seen the user."""
        seen = (app_id, user)
        if seen in self._known:
            return
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()  # they are noted again, which changes nothing
        self._known.add(seen)
        self._new.add(seen)

    async def find(self, caller: Caller, user_id: str) -> EndUser:
        """Raises EndUserNotFound, also for a user of another app."""
        try:
            written = str(UUID(user_id))
        except ValueError:
            raise EndUserNotFound("End user not found.") from None
        found = await self._store.read(lambda tx: end_users.find_user(tx, caller.app_id, written))
        if found is None:
            raise EndUserNotFound("End user not found.")
        return found

    async def watch(self) -> None:
        """Writes down whom this process has seen, until it is cancelled."""
        while True:
            await asyncio.sleep(_BEAT_S)
            try:
                await self._write()
            except Unavailable:
                pass  # with the next beat
            except Exception:
                logger.exception("upkeep failed", extra={"action": "note_end_users"})

    async def _write(self) -> None:
        due = frozenset(self._new)
        if not due:
            return
        await asyncio.to_thread(self._store.commit_blocking, lambda tx: end_users.insert_users(tx, due), lasting=False)
        self._new -= due
