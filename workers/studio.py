"""The engine as a worker's steps find it: many come in, each waits for its own pictures."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING

from app import clock
from app.checkpoints.catalogue import Catalogue
from app.domain.resident import Resident
from app.errors import AtelierError
from workers.diffusion.checkpoint.files_ahead import read_ahead
from workers.diffusion.request import EnlargeRequest, Image, ImageRequest, Painted, Progress, Weights

if TYPE_CHECKING:
    from workers.diffusion.engine import Engine

_ARRIVAL_S = 0.25


class Studio:
    """Knows when a step that was claimed has come to the engine: only then the engine can say whether it has room."""

    def __init__(self, engine: Engine, catalogue: Catalogue) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._has_arrived = False
        self._news = threading.Condition()

    def paint(
        self,
        request: ImageRequest,
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
        complete: Callable[[ImageRequest], ImageRequest] = lambda request: request,
    ) -> Painted:
        """As the engine's own."""
        self._arrive()
        return self._engine.paint(request, on_progress, should_stop, complete)

    def enlarge(self, request: EnlargeRequest, should_stop: Callable[[], bool]) -> Image:
        """As the engine's own."""
        self._arrive()
        return self._engine.enlarge(request, should_stop)

    def load(self, request: ImageRequest, should_stop: Callable[[], bool]) -> float:
        """Loads the request's checkpoint unless it is in memory, in turn with those who paint, and has it stay as long
        as the request says; returns how many seconds that took. Raises as `paint`.
        """
        return self.paint(request, _nobody_hears, should_stop).load_s

    def dismiss(self, checkpoint: str) -> None:
        """As the engine's own."""
        self._arrive()
        self._engine.dismiss(checkpoint)

    def has(self, checkpoint: str) -> bool:
        return any(each.name == checkpoint for each in self._engine.residents)

    def is_leaving(self, checkpoint: str) -> bool:
        """Whether it goes as soon as nobody is painted with it."""
        return any(each.name == checkpoint and each.is_leaving for each in self._engine.residents)

    def resident(self, checkpoint: str) -> Resident | None:
        """What is told of it; None when it is not in memory."""
        return next((each for each in self.residents() if each.checkpoint == checkpoint), None)

    def residents(self) -> tuple[Resident, ...]:
        """One for each name: a checkpoint may be there twice, with an autoencoder of its own and with another."""
        now_s = clock.monotonic()
        found: dict[str, Resident] = {}
        for each in self._engine.residents:
            left_s = None if each.ends_s is None else max(0.0, each.ends_s - now_s)
            one = Resident(each.name, each.size, each.vram_size, now_s - each.since_s, left_s)
            found[each.name] = found[each.name].with_another(one) if each.name in found else one
        return tuple(found.values())

    def has_room(self) -> bool:
        return self._engine.has_room

    def expect(self, checkpoint: str) -> None:
        """Has its files read ahead, while the engine is busy. One that can't be found is somebody else's trouble."""
        with suppress(AtelierError):
            found = self._catalogue.get(checkpoint)
            read_ahead(Weights(found.name, found.path, found.family or "", vae_path=found.vae_path))

    def until_inside(self, step: Future[None]) -> None:
        # An earlier step's end wakes it too, and is no arrival.
        step.add_done_callback(lambda ended: self._tell())
        with self._news:
            self._news.wait_for(lambda: self._has_arrived or step.done(), _ARRIVAL_S)
            self._has_arrived = False

    def _arrive(self) -> None:
        with self._news:
            self._has_arrived = True
            self._news.notify_all()

    def _tell(self) -> None:
        with self._news:
            self._news.notify_all()


def _nobody_hears(progress: Progress) -> None:
    """Nothing is painted."""
