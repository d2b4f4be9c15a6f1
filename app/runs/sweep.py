"""The orphan sweep: bytes that a killed attempt stored, and that no row will ever name, are deleted."""

from __future__ import annotations

import asyncio
import logging

from app.artifacts.objects import StoredObject
from app.artifacts.store import ArtifactStore
from app.store import files
from app.store.store import Store

logger = logging.getLogger(__name__)

# Servers that are started again and again sweep too; those that start together have other things to do at first.
_FIRST_S = 60.0
_EVERY_S = 3600.0


class OrphanSweep:
    """Deletes objects older than `orphan_age_s` seconds without a row. Any number of sweeps may run at once.

    A put makes its object young, and its row follows within half the age (`ArtifactStore.put`). So an old object
    without a row is one that nobody is about to name; that it is still old is looked at again when it is deleted.
    """

    def __init__(self, store: Store, content: ArtifactStore, orphan_age_s: float) -> None:
        self._store = store
        self._content = content
        self._orphan_age_s = orphan_age_s

    async def watch(self) -> None:
        """Sweeps once an hour, until cancelled. A sweep that fails is tried again with the next hour."""
        await asyncio.sleep(_FIRST_S)
        while True:
            try:
                await self.sweep()
            except Exception:
                logger.exception("upkeep failed", extra={"action": "sweep_orphans"})
            await asyncio.sleep(_EVERY_S)

    async def sweep(self) -> int:
        """Looks at every object once, page by page, on other threads; returns how many it deleted. Raises Unavailable.

        A database that names no file at all is more likely the wrong one than one whose objects are all orphans,
        so then nothing is deleted.
        """
        if not await self._store.read(files.has_files):
            return 0
        deleted = 0
        pages = self._content.listing()
        while (page := await asyncio.to_thread(next, pages, None)) is not None:
            for sha256 in await self._orphans(page):
                deleted += await asyncio.to_thread(self._content.delete, sha256, self._orphan_age_s)
        if deleted:
            logger.info(f"{deleted} orphans deleted", extra={"action": "orphans_deleted"})
        return deleted

    async def _orphans(self, page: list[StoredObject]) -> list[str]:
        old = [each.sha256 for each in page if each.age_s > self._orphan_age_s]
        if not old:
            return []
        named = await self._store.read(lambda tx: files.named_sha256s(tx, old))
        return [sha256 for sha256 in old if sha256 not in named]
