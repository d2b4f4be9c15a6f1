"""The live side of events: who waits for a run hears that something happened, and reads the rest from the store."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from app.domain.event import QueuePosition, Tick


class Wake(msgspec.Struct, frozen=True, tag="wake"):
    """Something was committed for this run."""

    run_id: str


_MOST_TICKS = 16


class Mailbox:
    """One listener's inbox: a flag for facts, and the last few ticks. A slow listener loses ticks, never facts."""

    __slots__ = ("_changed", "_position", "_woken", "ticks")

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._woken = False
        self._position = 0
        self.ticks: deque[Tick | QueuePosition] = deque(maxlen=_MOST_TICKS)

    def put(self, note: Wake | Tick | QueuePosition) -> None:
        if isinstance(note, Wake):
            self._woken = True
        elif isinstance(note, QueuePosition) and note.queue_position == self._position:
            return  # it was told so before
        else:
            if isinstance(note, QueuePosition):
                self._position = note.queue_position
            self.ticks.append(note)
        self._changed.set()

    async def wait(self, timeout_s: float) -> bool:
        """Waits until something came, at most so long; True if something did."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return True

    def take_wake(self) -> bool:
        """True if facts may have come since the last call."""
        woken, self._woken = self._woken, False
        return woken


class LocalWakeups:
    """Wake-ups inside one process. `publish` belongs to the event loop, `publish_threadsafe` to everybody."""

    def __init__(self) -> None:
        self._mailboxes: dict[str, set[Mailbox]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    @contextmanager
    def listen(self, run_id: str) -> Iterator[Mailbox]:
        """An inbox for the run, from now until the block ends."""
        mailbox = Mailbox()
        self._mailboxes.setdefault(run_id, set()).add(mailbox)
        try:
            yield mailbox
        finally:
            listeners = self._mailboxes[run_id]
            listeners.discard(mailbox)
            if not listeners:
                del self._mailboxes[run_id]

    def listened(self) -> list[str]:
        """The runs that somebody here listens to. On the event loop only."""
        return list(self._mailboxes)

    def publish(self, note: Wake | Tick | QueuePosition) -> None:
        for mailbox in self._mailboxes.get(note.run_id, ()):
            mailbox.put(note)

    def publish_threadsafe(self, note: Wake | Tick) -> None:
        """May lose the note while the process starts or ends: listeners look into the store now and then anyway."""
        loop = self._loop
        if note.run_id not in self._mailboxes or loop is None or loop.is_closed():
            return
        loop.call_soon_threadsafe(self.publish, note)
