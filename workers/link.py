"""What the worker and its parent say to each other over one pipe: small tagged messages, nothing durable."""

from __future__ import annotations

import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import msgspec

from app.clock import monotonic
from app.domain.event import Tick
from app.domain.resident import Resident
from app.domain.run import Step
from app.events.wakeups import Wake
from app.queue.doorbell import Halt, Ring, Unload

TICK_GAP_S = 0.5


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The engine is loaded."""


class Busy(msgspec.Struct, frozen=True, tag="busy"):
    """The worker holds this step and works on it."""

    step_id: str
    attempt: int
    kind: str = ""


class Counted(msgspec.Struct, frozen=True, tag="counted"):
    """Something happened that the parent counts: see `Tally.count`."""

    what: str
    label: str = ""


class Idle(msgspec.Struct, frozen=True, tag="idle"):
    """The worker has let go of this attempt."""

    step_id: str
    attempt: int


class Drained(msgspec.Struct, frozen=True, tag="drained"):
    """The worker has room, has looked, and found nothing to claim."""


class Holds(msgspec.Struct, frozen=True, tag="holds"):
    """The checkpoints that the worker has in memory now."""

    residents: tuple[Resident, ...]


class Elsewhere(msgspec.Struct, frozen=True, tag="elsewhere"):
    """There is work of this class for which another worker has the checkpoint in memory."""

    work_class: str


class Leave(msgspec.Struct, frozen=True, tag="leave"):
    """The worker may finish what it holds, and claims no more."""


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """A sign of life of a step, between two ticks that are told."""

    step_id: str


class Progressed(msgspec.Struct, frozen=True, tag="tick"):
    tick: Tick


FromWorker = Ready | Busy | Counted | Idle | Drained | Beat | Progressed | Holds | Elsewhere | Wake | Ring | Halt
ToWorker = Ring | Halt | Unload | Leave

_encoder = msgspec.json.Encoder()
_from_worker: msgspec.json.Decoder[Any] = msgspec.json.Decoder(FromWorker)
_to_worker: msgspec.json.Decoder[Any] = msgspec.json.Decoder(ToWorker)


def send(connection: Connection, message: FromWorker | ToWorker) -> None:
    """Raises OSError when the other side is gone."""
    connection.send_bytes(_encoder.encode(message))


def receive_from_worker(connection: Connection) -> FromWorker:
    """Raises EOFError or OSError when the worker is gone."""
    message: FromWorker = _from_worker.decode(connection.recv_bytes())
    return message


class WorkerSide:
    """The worker's end: hears doorbells and stops on a thread of its own, tells what it does.

    It is also the worker's doorbell and its wake-ups: what the worker makes true, the parent hears and passes on.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._bell = threading.Event()
        self._halted: set[tuple[str, int | None]] = set()
        self._last_sign_s: dict[str, float] = {}
        self.parent_gone = threading.Event()
        self.leaving = threading.Event()
        self.unload: Callable[[str], None] = _has_none
        """Called, on the thread that listens, when a checkpoint is to leave memory; who has a memory sets it."""

    def listen(self) -> None:
        """Hears the parent until it is gone. Runs on its own thread."""
        while True:
            try:
                message = _to_worker.decode(self._connection.recv_bytes())
            except (EOFError, OSError):
                self.parent_gone.set()
                self._bell.set()
                return
            if isinstance(message, Halt):
                self._halted.update((step_id, message.attempt) for step_id in message.step_ids)
                continue
            if isinstance(message, Unload):
                self.unload(message.checkpoint)
                continue
            if isinstance(message, Leave):
                self.leaving.set()
            self._bell.set()

    def wait_for_work(self, timeout_s: float) -> None:
        self._bell.wait(timeout_s)
        self._bell.clear()

    def look_again(self) -> None:
        """Ends the wait for work: there may be room for more."""
        self._bell.set()

    def is_halted(self, step: Step) -> bool:
        """True once the step or this attempt has been ended from outside, or nobody is left to hear of it."""
        return not self._halted.isdisjoint(_names(step)) or self.parent_gone.is_set()

    def tell(self, message: FromWorker) -> None:
        """A lost message is no harm: whoever waits looks into the store as well."""
        try:
            with self._sending:
                send(self._connection, message)
        except OSError:
            self.parent_gone.set()

    def progress(self, tick: Tick) -> None:
        """Tells the first tick of a step, then at most two a second; the others are signs of life."""
        if self._is_time(tick.step_id):
            self.tell(Progressed(tick))
        else:
            self.tell(Beat(tick.step_id))

    def alive(self, step: Step) -> None:
        """Says that the step is waiting for somebody else and no stall; told at most twice a second."""
        if self._is_time(step.id):
            self.tell(Beat(step.id))

    def _is_time(self, step_id: str) -> bool:
        """Called by the thread that works on the step alone."""
        now_s = monotonic()
        if now_s - self._last_sign_s.get(step_id, -TICK_GAP_S) < TICK_GAP_S:
            return False
        self._last_sign_s[step_id] = now_s
        return True

    def finished(self, step: Step) -> None:
        self._halted.difference_update(_names(step))
        self._last_sign_s.pop(step.id, None)
        self.tell(Idle(step.id, step.attempt))

    def publish_threadsafe(self, note: Wake | Tick) -> None:
        if isinstance(note, Wake):
            self.tell(note)

    def ring(self, work_class: str) -> None:
        self.tell(Ring(work_class))

    def ring_all(self, work_class: str) -> None:
        self.tell(Elsewhere(work_class))

    def halt(self, step_ids: tuple[str, ...]) -> None:
        self._halted.update((step_id, None) for step_id in step_ids)


def _has_none(checkpoint: str) -> None:
    """A worker without a memory has nothing to unload."""


def _names(step: Step) -> tuple[tuple[str, int | None], ...]:
    """What a halt may call it by: the step, or this one attempt at it."""
    return (step.id, None), (step.id, step.attempt)
