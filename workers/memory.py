"""What a worker's engine has in memory, as the rest of the house sees it."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Protocol

from app import clock
from app.domain.resident import Resident

_SAME_END_S = 10.0


class Memory(Protocol):
    """Called by the drain loop."""

    def residents(self) -> tuple[Resident, ...]:
        """The checkpoints in memory."""
        ...

    def has_room(self) -> bool:
        """Whether one step more would be worked on, and not only held."""
        ...

    def expect(self, checkpoint: str) -> None:
        """This one will be needed before long; called once for each in a row."""
        ...

    def until_inside(self, step: Future[None]) -> None:
        """Waits until the step has come to the engine or has ended, but not for long."""
        ...


class NoMemory:
    """Of a worker whose steps need no checkpoint."""

    def residents(self) -> tuple[Resident, ...]:
        return ()

    def has_room(self) -> bool:
        return True

    def expect(self, checkpoint: str) -> None:
        return

    def until_inside(self, step: Future[None]) -> None:
        return


class Told:
    """What others have been told of the memory. An end that moves on a little with each use is not worth a word."""

    def __init__(self) -> None:
        self._outline: object = frozenset[object]()

    def is_news(self, held: tuple[Resident, ...]) -> bool:
        """Whether this differs from what was told last; it counts as told from now on."""
        before, self._outline = self._outline, frozenset(map(_outline, held))
        return before != self._outline


def _outline(each: Resident) -> tuple[object, ...]:
    ends = None if each.left_s is None else round((clock.monotonic() + each.left_s) / _SAME_END_S)
    return each.checkpoint, each.size, each.vram_size, ends
