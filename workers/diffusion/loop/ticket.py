"""A request on its way: what the thread that asked and the engine's thread tell each other."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass, replace

from workers.diffusion.drawing.given import Given
from workers.diffusion.pictures.images import Pixels, Size
from workers.diffusion.request import ImageRequest, Progress

Enlarge = Callable[[Pixels, str, Size], Pixels]


@dataclass(frozen=True, slots=True, eq=False)
class Errand:
    """Work between two passes that the thread that asked does; `back` takes what came of it, or what kept it."""

    work: Callable[[], Pixels]
    back: Callable[[Pixels | Exception], None]

    def run(self) -> None:
        try:
            result: Pixels | Exception = self.work()
        except Exception as error:
            result = error
        self.back(result)


@dataclass(frozen=True, slots=True, eq=False)
class _Glimpsed:
    progress: Progress
    preview: Callable[[], bytes]


class Ticket:
    """One request. The engine's thread tells, the thread that asked listens in `follow`, and does there what would
    hold up all others on the engine's thread.
    """

    def __init__(self, request: ImageRequest, given: Given, should_stop: Callable[[], bool], enlarge: Enlarge) -> None:
        """`enlarge` makes pixels larger, by an upscaler's name, to a size; only the thread that asked calls it."""
        self.request = request
        self.given = given
        self.should_stop = should_stop
        self.enlarge = enlarge
        self.is_begun = False  # its prompts are encoded, or what kept them from it was told
        self.in_full = False  # painted in single precision, because half of it was too little
        self.load_s = 0.0  # how long its checkpoint took to load; set before the end is told
        self._told: queue.SimpleQueue[Progress | _Glimpsed | Errand | list[Pixels] | Exception] = queue.SimpleQueue()

    def follow(self, on_progress: Callable[[Progress], None]) -> list[Pixels]:
        """Waits for the pictures, each uint8 of (height, width, 3). Raises what kept them from being painted."""
        while True:
            told = self._told.get()
            if isinstance(told, Progress):
                on_progress(told)
            elif isinstance(told, _Glimpsed):
                on_progress(replace(told.progress, preview=told.preview()))
            elif isinstance(told, Errand):
                told.run()
            elif isinstance(told, Exception):
                raise told
            else:
                return told

    def progress(self, progress: Progress, preview: Callable[[], bytes] | None = None) -> None:
        """`preview` makes one, on the thread that asked."""
        self._told.put(progress if preview is None else _Glimpsed(progress, preview))

    def send(self, errand: Errand) -> None:
        self._told.put(errand)

    def succeed(self, pictures: list[Pixels]) -> None:
        self._told.put(pictures)

    def fail(self, error: Exception) -> None:
        self._told.put(error)
