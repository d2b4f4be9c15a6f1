"""How many steps a worker does side by side."""

from __future__ import annotations

import threading


class Lanes:
    """Places for steps. The first `alone` steps are done one at a time.

    A worker that follows one that died is careful: one of the steps that died with it may be the one that did it. If it
    does it again, it takes no other with it.
    """

    def __init__(self, count: int, alone: int = 0) -> None:
        self.count = count
        self._alone = alone if count > 1 else 0
        self._free = threading.Semaphore(1 if self._alone else count)
        self._lock = threading.Lock()

    def take(self) -> None:
        """Waits for a free lane."""
        self._free.acquire()

    def give(self, *, done: bool = False) -> None:
        """The lane is free again; `done` says that a step has ended in it."""
        more = 1
        with self._lock:
            if done and self._alone:
                self._alone -= 1
                more = 1 if self._alone else self.count
        self._free.release(more)
