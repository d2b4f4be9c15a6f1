"""What is in the memory of the workers, as they say it themselves, and what is to leave it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from app.checkpoints.catalogue import Catalogue
from app.domain.resident import Resident
from app.errors import CheckpointUnavailable, Unavailable
from app.store.residents import Housed, dismiss, list_residents
from app.store.store import Store

__all__ = ["Housed", "Residency", "together"]

_AGAIN_S = 3.0
_TIMES = 10


class Residency:
    """Checkpoints in memory, of all workers."""

    def __init__(self, store: Store, catalogue: Catalogue) -> None:
        self._store = store
        self._catalogue = catalogue
        self._deleted: dict[str, int] = {}  # name → how often the workers are still asked

    async def now(self) -> list[Housed]:
        """By name; of one name, the one that has been there the longest first."""
        return await self._store.read(list_residents)

    async def dismiss(self, checkpoint: str) -> None:
        """The checkpoint of that name is deleted: every worker lets go of it as soon as nobody is painted with it.

        A worker that is loading it, or tells anew what it has, at that moment does not hear of it; `watch` asks again.
        """
        self._deleted[checkpoint] = _TIMES
        await self._ask(checkpoint)

    async def watch(self) -> None:
        """Asks again for half a minute, until cancelled."""
        while True:
            await asyncio.sleep(_AGAIN_S)
            for checkpoint in tuple(self._deleted):
                await self._ask(checkpoint)

    async def _ask(self, checkpoint: str) -> None:
        """Unless there is another one of that name by now."""
        left = self._deleted.pop(checkpoint)
        with suppress(CheckpointUnavailable):
            self._catalogue.get(checkpoint)
            return
        with suppress(Unavailable):  # then it is asked next time
            await self._store.commit(lambda tx: dismiss(tx, checkpoint))
        if left > 1:
            self._deleted.setdefault(checkpoint, left - 1)


def together(held: Iterable[Housed]) -> list[Resident]:
    """Each checkpoint once, the one that stays longest first: what several workers have is one, with all its bytes."""
    found: dict[str, Resident] = {}
    for each in held:
        name = each.resident.checkpoint
        found[name] = found[name].with_another(each.resident) if name in found else each.resident
    return sorted(found.values(), key=lambda resident: -resident.stays_s)
