"""The doorbell: tells workers that something changed. A hint, never a payload: a lost one is rung again."""

from __future__ import annotations

import threading
from collections.abc import Callable
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


Hint = Ring | Halt


class Doorbell(Protocol):
    """Called after a commit. Never blocks, never fails: a hint that can't be given is lost."""

    def ring(self, work_class: str) -> None: ...

    def halt(self, step_ids: tuple[str, ...]) -> None: ...


class PipeDoorbell:
    """The doorbell of the embedded form: a pipe to the worker, written by a thread of its own.

    A worker that hangs lets its pipe fill up, and a write into it would block; that must not be the event loop.
    """

    def __init__(self) -> None:
        self._hints: SimpleQueue[Hint | None] = SimpleQueue()
        self._send: Callable[[Hint], None] | None = None
        self._thread = threading.Thread(target=self._deliver, name="doorbell", daemon=True)
        self._thread.start()

    def connect(self, send: Callable[[Hint], None] | None) -> None:
        """Sets where hints go from now on; None while there is no worker. `send` may raise OSError."""
        self._send = send

    def ring(self, work_class: str) -> None:
        self._hints.put(Ring(work_class))

    def halt(self, step_ids: tuple[str, ...]) -> None:
        self._hints.put(Halt(step_ids))

    def halt_attempt(self, step_id: str, attempt: int) -> None:
        self._hints.put(Halt((step_id,), attempt))

    def close(self) -> None:
        self._hints.put(None)

    def _deliver(self) -> None:
        while (hint := self._hints.get()) is not None:
            send = self._send
            if send is None:
                continue
            try:
                send(hint)
            except (OSError, ValueError):  # the worker has just died; the next one looks for work by itself
                continue
