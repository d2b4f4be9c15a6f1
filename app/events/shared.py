"""Wake-ups between processes: each tells its own listeners at once, and the other processes through Redis."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec

from app import ids
from app.domain.event import Tick
from app.events.wakeups import LocalWakeups, Wake
from app.queue.notes import WAKES, NoteListener, NoteSender

logger = logging.getLogger(__name__)


class _Note(msgspec.Struct, frozen=True, array_like=True):
    origin: str
    note: Wake | Tick


_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_Note)


class SharedWakeups(LocalWakeups):
    """Local wake-ups and everybody else's. Without Redis the local ones go on, and readers look into the store."""

    def __init__(self, redis_url: str, sender: NoteSender) -> None:
        super().__init__()
        self._origin = ids.new_id()
        self._sender = sender
        self._listener = NoteListener(redis_url, {WAKES: self._hear})

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        super().bind(loop)
        self._listener.start()

    def publish_threadsafe(self, note: Wake | Tick) -> None:
        super().publish_threadsafe(note)
        self._sender.send(WAKES, msgspec.json.encode(_Note(self._origin, note)))

    def close(self) -> None:
        self._listener.close()

    def _hear(self, message: bytes) -> None:
        heard = _decoder.decode(message)
        if heard.origin != self._origin:
            super().publish_threadsafe(heard.note)
