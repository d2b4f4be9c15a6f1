"""A worker process and what its parent knows of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from app import clock
from app.domain.event import Tick
from app.domain.resident import Resident
from app.settings import Settings
from workers.link import Busy


class Held:
    """An attempt that the worker holds: since when, when it last gave a sign, and how far it is, until that is stored.

    `asked_s` is since when the worker has been asked to drop it.
    """

    __slots__ = ("asked_s", "attempt", "kind", "last_sign_s", "since_s", "step_id", "tick")

    def __init__(self, busy: Busy) -> None:
        self.step_id, self.attempt, self.kind = busy.step_id, busy.attempt, busy.kind
        self.last_sign_s = self.since_s = clock.monotonic()
        self.tick: Tick | None = None
        self.asked_s: float | None = None


class Child:
    """One worker process."""

    def __init__(self, settings: Settings, worker_id: str, work_class: str) -> None:
        self.worker_id = worker_id
        self.ready = False
        self.hung = False  # it was killed because a step did not let go
        self.residents: tuple[Resident, ...] = ()
        self.untold = False  # nobody else knows of these residents yet
        self.connection, theirs = Pipe()
        self._held: dict[tuple[str, int], Held] = {}
        arguments = [str(theirs.fileno()), worker_id, work_class]
        command = [sys.executable, "-m", settings.worker_module, *arguments]
        # A process group of its own: Ctrl-C on the terminal is the parent's business.
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, process_group=0)
        theirs.close()  # so that the end of the worker is the end of the pipe
        self.connection.send_bytes(settings.model_dump_json().encode())

    @property
    def held(self) -> tuple[Held, ...]:
        return tuple(self._held.values())

    def takes(self, busy: Busy) -> None:
        self._held[busy.step_id, busy.attempt] = Held(busy)

    def lets_go(self, step_id: str, attempt: int) -> Held | None:
        return self._held.pop((step_id, attempt), None)

    def houses(self, residents: tuple[Resident, ...]) -> None:
        self.residents, self.untold = residents, True

    def signs(self, step_id: str, tick: Tick | None = None) -> None:
        """A step of its has given a sign of life, or told how far it is."""
        for held in self._of(step_id):
            held.last_sign_s = clock.monotonic()
            held.tick = tick or held.tick

    def excuses(self, away_s: float) -> None:
        """For so long nobody listened: a silence of that time is no sign of a stall."""
        for held in self._held.values():
            held.last_sign_s += away_s
            held.asked_s = None if held.asked_s is None else held.asked_s + away_s

    def _of(self, step_id: str) -> Iterable[Held]:
        return (held for held in self._held.values() if held.step_id == step_id)

    def end(self, patience_s: float) -> None:
        """Ends the process: it leaves when the pipe closes; one that hangs is killed."""
        self.connection.close()
        try:
            self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def parent_connection(descriptor: int) -> Connection:
    """The worker's end of the pipe that `Child` made."""
    os.set_inheritable(descriptor, False)
    return Connection(descriptor)
