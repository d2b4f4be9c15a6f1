"""What is in the memory of the workers, as they say it themselves."""

from __future__ import annotations

from app.store.residents import Housed, list_residents
from app.store.store import Store

__all__ = ["Housed", "Residency"]


class Residency:
    """Checkpoints in memory, of all workers."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def now(self) -> list[Housed]:
        """By name; of one name, the one that has been there the longest first."""
        return await self._store.read(list_residents)
