"""When keys were used last: noted in memory, written now and then, never while a request waits for it."""

from __future__ import annotations

import asyncio
import logging

from app import clock
from app.errors import Unavailable
from app.store import accounts
from app.store.store import Store

logger = logging.getLogger(__name__)

_BEAT_S = 1.0
_AGAIN_S = 60.0


class Uses:
    """The last uses of keys in this process. What a server noted in its last minute may be lost with it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._written_s: dict[str, float] = {}
        self.last_s: dict[str, float] = {}
        """Key id → when it was used (`clock.monotonic`), since it was written last. Requests write here."""

    async def watch(self) -> None:
        """Writes a key's first use within a second, later ones once a minute, until cancelled."""
        while True:
            await asyncio.sleep(_BEAT_S)
            try:
                await self._write(clock.monotonic())
            except Unavailable:
                pass  # with the next beat
            except Exception:
                logger.exception("upkeep failed", extra={"action": "note_uses"})

    async def _write(self, now_s: float) -> None:
        """One transaction for all keys that are due; it waits for no disk."""
        self._written_s = {key: at for key, at in self._written_s.items() if now_s - at < _AGAIN_S}
        due = {key: at for key, at in self.last_s.items() if key not in self._written_s}
        if not due:
            return
        ago_s = {key: max(0.0, now_s - at) for key, at in due.items()}
        await asyncio.to_thread(self._store.commit_blocking, lambda tx: accounts.note_uses(tx, ago_s), lasting=False)
        for key, at in due.items():
            self._written_s[key] = now_s
            if self.last_s[key] == at:
                del self.last_s[key]
