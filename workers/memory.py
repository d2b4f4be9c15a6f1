"""What a worker's engine has in memory, as the rest of the house sees it."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Protocol

from app import clock
from app.domain.resident import Resident

_SAME_END_S = 10.0
_SAME_SHARE = 0.1


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
        self._sizes: dict[str, tuple[int, int]] = {}
        self._ends_s: dict[str, float] = {}

    def is_news(self, held: tuple[Resident, ...]) -> bool:
        """Whether this differs from what was told last; if so it counts as told from now on."""
        sizes = {each.checkpoint: (each.size, each.vram_size) for each in held}
        now_s = clock.monotonic()
        if sizes == self._sizes and all(is_close(each.stays_s, self._ends_s[each.checkpoint] - now_s) for each in held):
            return False
        self._sizes, self._ends_s = sizes, {each.checkpoint: now_s + each.stays_s for each in held}
        return True


def is_close(left_s: float, told_s: float) -> bool:
    """Of what is left of a stay and what others know to be left: the nearer the end, the more exactly it is told."""
    return left_s == told_s or abs(left_s - told_s) < min(_SAME_END_S, max(1.0, _SAME_SHARE * left_s))
