"""A request on its way: what the thread that asked and the engine's thread tell each other."""

from __future__ import annotations

import queue
from collections.abc import Callable

from workers.diffusion.images import Pixels
from workers.diffusion.request import ImageRequest, Progress


class Ticket:
    """One request. The engine's thread tells, the thread that asked listens in `follow`."""

    def __init__(self, request: ImageRequest, should_stop: Callable[[], bool]) -> None:
        self.request = request
        self.should_stop = should_stop
        self.load_s = 0.0  # how long its checkpoint took to load; set before the end is told
        self._told: queue.SimpleQueue[Progress | list[Pixels] | Exception] = queue.SimpleQueue()

    def follow(self, on_progress: Callable[[Progress], None]) -> list[Pixels]:
        """Waits for the pictures, each uint8 of (height, width, 3). Raises what kept them from being painted."""
        while True:
            told = self._told.get()
            if isinstance(told, Progress):
                on_progress(told)
            elif isinstance(told, Exception):
                raise told
            else:
                return told

    def progress(self, progress: Progress) -> None:
        self._told.put(progress)

    def succeed(self, pictures: list[Pixels]) -> None:
        self._told.put(pictures)

    def fail(self, error: Exception) -> None:
        self._told.put(error)
