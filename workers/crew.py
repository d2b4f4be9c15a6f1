"""The workers beside one process: one for each class of work, so that pictures and everything else never wait for each
other."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from app.queue.doorbell import PipeDoorbell
from app.runs.advance import Advance
from app.runs.companion import Companion
from app.runs.service import Announcer
from app.settings import Settings
from app.store import residents, steps
from app.store.store import Store
from workers.lease import LOST, LeaseKeeper
from workers.ties import Ties


class Crew(Companion):
    """The embedded workers, or those of `atelier worker`.

    Beside the worker for pictures, the other one starts later, so that the first picture has the machine for itself:
    with its first step, or, unless `is_rung` for every step, when the first has begun.
    """

    def __init__(self, settings: Settings, work_classes: Sequence[str] = ("gpu", "cpu"), *, is_rung: bool) -> None:
        self._settings = settings
        is_second = {"gpu", "cpu"} <= set(work_classes)
        cpu = LeaseKeeper(settings, "cpu", waits=is_second)
        gpu = LeaseKeeper(settings, "gpu", then=cpu.want if is_second and not is_rung else None)
        self._keepers = {each.work_class: each for each in (gpu, cpu) if each.work_class in work_classes}

    def start(self, store: Store, advance: Advance, announcer: Announcer, doorbell: PipeDoorbell) -> None:
        ties = Ties(store, advance, announcer, doorbell)
        threading.Thread(target=self._begin, args=(ties,), name="crew", daemon=True).start()

    def _begin(self, ties: Ties) -> None:
        if self._settings.is_embedded:
            # Only one server may use this database (it holds the lock), so whatever is held now is held by the dead.
            ties.give_back(ties.store.read_blocking(steps.held_steps), LOST)
            ties.store.commit_blocking(residents.forget_residents)
        for keeper in self._keepers.values():
            keeper.start(ties)

    def state(self) -> str:
        """Pictures take the longest to get ready for; the worker of the cpu class is there when it is wanted."""
        first = next(iter(self._keepers.values()))
        return "ready" if first.is_ready else "starting"

    def stop(self) -> None:
        for keeper in self._keepers.values():
            keeper.ask_to_stop()
        for keeper in self._keepers.values():
            keeper.stop()

    def drain(self, work_class: str) -> None:
        """See `LeaseKeeper.drain`."""
        keeper = self._keepers.get(work_class)
        if keeper is not None:
            keeper.drain()

    def stop_draining(self) -> None:
        """Makes `drain` return soon; called from a signal handler."""
        for keeper in self._keepers.values():
            keeper.ask_to_leave()

    def leave(self) -> None:
        """Stops in good order, all of them at once: each has the whole grace."""
        leaving = [threading.Thread(target=keeper.leave) for keeper in self._keepers.values()]
        for thread in leaving:
            thread.start()
        for thread in leaving:
            thread.join()
