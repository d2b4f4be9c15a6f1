"""What is in the memory of the workers, as they say it themselves."""

from __future__ import annotations

from collections.abc import Iterable

from app.domain.resident import Resident
from app.store.residents import Housed, list_residents
from app.store.store import Store

__all__ = ["Housed", "Residency", "together"]


class Residency:
    """Checkpoints in memory, of all workers."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def now(self) -> list[Housed]:
        """By name; of one name, the one that has been there the longest first."""
        return await self._store.read(list_residents)


def together(held: Iterable[Housed]) -> list[Resident]:
    """Each checkpoint once, the one that stays longest first: what several workers have is one, with all its bytes."""
    found: dict[str, Resident] = {}
    for each in held:
        name = each.resident.checkpoint
        found[name] = found[name].with_another(each.resident) if name in found else each.resident
    return sorted(found.values(), key=lambda resident: -resident.stays_s)
