"""A request on its way: what the thread that asked and the engine's thread tell each other."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from workers.diffusion.drawing.given import Given
from workers.diffusion.memory import as_told
from workers.diffusion.pictures.images import Pixels, Size
from workers.diffusion.request import ImageRequest, Progress

logger = logging.getLogger(__name__)

Enlarge = Callable[[Pixels, str, Size], Pixels]
T = TypeVar("T")


class Chore(Generic[T]):
    """Work for the engine's thread between two turns."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._done: Future[T] = Future()

    def run(self) -> None:
        try:
            self._done.set_result(self._work())
        except Exception as error:
            self._done.set_exception(as_told(error))

    def fail(self, error: Exception) -> None:
        """It will not be done."""
        self._done.set_exception(error)

    def wait(self) -> T:
        """What the work gave. Raises what it raised, or what kept it from being done."""
        return self._done.result()


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

    def made(self) -> bytes | None:
        """The preview. One that can't be made, for lack of memory perhaps, is no harm to the picture."""
        try:
            return self.preview()
        except Exception as error:
            told = {"action": "preview_failed", "error": str(error)[:200]}
            logger.warning("a preview could not be made", extra=told)
            return None


class Ticket:
    """One request. The engine's thread tells, the thread that asked listens in `follow`, and does there what would
    hold up all others on the engine's thread.
    """

    def __init__(self, request: ImageRequest, given: Given, should_stop: Callable[[], bool], enlarge: Enlarge) -> None:
        """`enlarge` makes pixels larger, by an upscaler's name, to a size; only the thread that asked calls it."""
        self.request = request
        self.given = given
        self.enlarge = enlarge
        self._should_stop = should_stop
        self._is_left = False  # nobody listens any more
        self.is_begun = False  # its prompts are encoded, or what kept them from it was told
        self.in_full = False  # painted in single precision, because half of it was too little
        self.load_s = 0.0  # how long its checkpoint took to load; set before the end is told
        self._told: queue.SimpleQueue[Progress | _Glimpsed | Errand | list[Pixels] | Exception] = queue.SimpleQueue()

    @property
    def is_unwanted(self) -> bool:
        """Whoever asked has gone, or says that it is to stop. Raises what that one raises."""
        return self._is_left or self._should_stop()

    def follow(self, on_progress: Callable[[Progress], None]) -> list[Pixels]:
        """Waits for the pictures, each uint8 of (height, width, 3). Raises what kept them from being painted."""
        try:
            while True:
                told = self._told.get()
                if isinstance(told, Progress):
                    on_progress(told)
                elif isinstance(told, _Glimpsed):
                    on_progress(replace(told.progress, preview=told.made()))
                elif isinstance(told, Errand):
                    told.run()
                elif isinstance(told, Exception):
                    raise told
                else:
                    return told
        finally:
            self._is_left = True

    def progress(self, progress: Progress, preview: Callable[[], bytes] | None = None) -> None:
        """`preview` makes one, on the thread that asked."""
        self._told.put(progress if preview is None else _Glimpsed(progress, preview))

    def send(self, errand: Errand) -> None:
        self._told.put(errand)

    def succeed(self, pictures: list[Pixels]) -> None:
        self._told.put(pictures)

    def fail(self, error: Exception) -> None:
        self._told.put(error)
