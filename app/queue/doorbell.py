"""The doorbell: tells workers that something changed. A hint, never a payload: a lost one is rung again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Protocol

import msgspec


class Ring(msgspec.Struct, frozen=True, tag="ring"):
    """There is work of this class."""

    work_class: str


class Halt(msgspec.Struct, frozen=True, tag="halt"):
    """These steps have been ended from outside: whoever works on one may stop.

    `attempt` is set when only that attempt is meant: the hint may arrive when the step's next one has begun.
    """

    step_ids: tuple[str, ...]
    attempt: int | None = None


class Unload(msgspec.Struct, frozen=True, tag="unload"):
    """This checkpoint is to leave memory as soon as nobody is painted with it."""

    checkpoint: str


Hint = Ring | Halt | Unload


class Doorbell(Protocol):
    """Called after a commit. Never blocks, never fails: a hint that can't be given is lost."""

    def ring(self, work_class: str) -> None: ...

    def ring_all(self, work_class: str) -> None:
        """Rings at every worker of the class, where `ring` reaches one: what waits is meant for another."""
        ...

    def halt(self, step_ids: tuple[str, ...]) -> None: ...


class PipeDoorbell:
    """The doorbell of the embedded form: a pipe to each worker, written by a thread of its own.

    A worker that hangs lets its pipe fill up, and a write into it would block; that must not be the event loop.
    """

    def __init__(self) -> None:
        self._hints: SimpleQueue[Hint | None] = SimpleQueue()
        self._sends: dict[str, Callable[[Hint], None]] = {}
        self._absent: dict[str, Callable[[], None]] = {}
        self._thread = threading.Thread(target=self._deliver, name="doorbell", daemon=True)
        self._thread.start()

    def connect(self, work_class: str, send: Callable[[Hint], None] | None) -> None:
        """Sets where the hints of a class go from now on; None while it has no worker. `send` may raise OSError."""
        if send is None:
            self._sends.pop(work_class, None)
        else:
            self._sends[work_class] = send

    def when_absent(self, work_class: str, call: Callable[[], None]) -> None:
        """Sets what is called, on a thread of its own, when it rings for a class that has no worker."""
        self._absent[work_class] = call

    def ring(self, work_class: str) -> None:
        self._hints.put(Ring(work_class))

    def ring_all(self, work_class: str) -> None:
        self.ring(work_class)

    def halt(self, step_ids: tuple[str, ...]) -> None:
        self._hints.put(Halt(step_ids))

    def halt_attempt(self, step_id: str, attempt: int) -> None:
        self._hints.put(Halt((step_id,), attempt))

    def unload(self, checkpoint: str) -> None:
        self._hints.put(Unload(checkpoint))

    def close(self) -> None:
        self._hints.put(None)

    def _deliver(self) -> None:
        while (hint := self._hints.get()) is not None:
            if isinstance(hint, Ring):
                send = self._sends.get(hint.work_class)
                if send is None and hint.work_class in self._absent:
                    self._absent[hint.work_class]()
                sends = [] if send is None else [send]
            else:
                sends = list(self._sends.values())
            for send in sends:
                # A worker that has just died is no trouble: the next one looks for work by itself.
                with suppress(OSError, ValueError):
                    send(hint)
