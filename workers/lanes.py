"""How many steps a worker does side by side, and which of them are in small company."""

from __future__ import annotations

import threading
from math import isqrt

from app.domain.run import GIVEN_BACK, WORKER_LOST, Step


class Lanes:
    """Places for steps. A step that was lost with its worker is done beside a few others only, its last try alone.

    One of those that were lost together may be the one that did it: each time fewer are with it, at the end nobody. An
    innocent step has its last try for itself as well, so nobody else can make it fail. The few are the square root of
    all lanes: a crowd that is done again in small parts, and one of these step by step, takes the fewest rounds then.
    """

    def __init__(self, count: int, max_attempts: int) -> None:
        self.count = count
        self.few = isqrt(count)
        self._max_attempts = max_attempts
        self._at_work: list[Step] = []
        self._changed = threading.Condition()

    def wait_for_room(self) -> int:
        """Waits until one step more may be done; returns how many there are beside it. Called by the one who claims."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._at_work) < self._most())
            return len(self._at_work)

    def enter(self, step: Step) -> None:
        """The step that was claimed for the room that there was."""
        with self._changed:
            self._at_work.append(step)

    def leave(self, step: Step) -> None:
        with self._changed:
            self._at_work.remove(step)
            self._changed.notify_all()

    def _most(self) -> int:
        return min(map(self._company, self._at_work), default=self.count)

    def _company(self, step: Step) -> int:
        """How many may be done while this one is. `app.store.steps.claim` gives no step that would break it."""
        if step.error_type in GIVEN_BACK and step.attempt >= self._max_attempts:
            return 1
        return self.few if step.error_type == WORKER_LOST else self.count
