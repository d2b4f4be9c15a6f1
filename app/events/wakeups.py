"""The live side of events: who follows a run hears that something happened, and reads the rest from the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from app.domain.event import QueuePosition, Tick


class Wake(msgspec.Struct, frozen=True, tag="wake"):
    """Something was committed for this run."""

    run_id: str


Note = Wake | Tick | QueuePosition
Hear = Callable[[Note], None]


class LocalWakeups:
    """Wake-ups inside one process. `publish_threadsafe` belongs to everybody, the rest to the event loop."""

    def __init__(self) -> None:
        self._hearers: dict[str, list[Hear]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def attend(self, run_id: str, hear: Hear) -> None:
        """`hear` is called with every note about the run, until `leave`."""
        self._hearers.setdefault(run_id, []).append(hear)

    def leave(self, run_id: str, hear: Hear) -> None:
        hearers = self._hearers[run_id]
        hearers.remove(hear)
        if not hearers:
            del self._hearers[run_id]

    def attended(self) -> list[str]:
        """The runs whose notes somebody here hears. On the event loop only."""
        return list(self._hearers)

    def publish(self, note: Note) -> None:
        for hear in tuple(self._hearers.get(note.run_id, ())):
            hear(note)

    def publish_threadsafe(self, note: Wake | Tick) -> None:
        """May lose the note while the process starts or ends: followers look into the store now and then anyway."""
        loop = self._loop
        if note.run_id not in self._hearers or loop is None or loop.is_closed():
            return
        loop.call_soon_threadsafe(self.publish, note)
