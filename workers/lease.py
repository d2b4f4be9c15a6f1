"""The parent's side of a worker: starts it, renews its leases, passes on what it tells, sees it die or hang.

The parent never touches torch, so neither a long load nor a crash of the engine can silence it.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from app import clock, ids
from app.domain.event import Tick
from app.domain.run import Retry, Step
from app.errors import Unavailable
from app.queue.doorbell import Halt, PipeDoorbell, Ring
from app.runs.advance import SERVER_STOPPED, WORKER_LOST, Advance
from app.runs.companion import Companion
from app.runs.service import Announcer
from app.settings import Settings
from app.store import steps
from app.store.locks import open_locks
from app.store.store import Store
from workers.link import (
    Beat,
    Busy,
    Counted,
    Drained,
    FromWorker,
    Idle,
    Leave,
    Progressed,
    Ready,
    receive_from_worker,
    send,
)

logger = logging.getLogger(__name__)

_LOST = Retry("The worker was lost.", WORKER_LOST)
_CLOSED = Retry("The server was stopped.", SERVER_STOPPED)
_LONGEST_PAUSE_S = 10.0
_SOFT_S = 5.0


class Child:
    """One worker process and what its parent knows of it."""

    def __init__(self, settings: Settings, worker_id: str, work_classes: tuple[str, ...]) -> None:
        self.worker_id = worker_id
        self.ready = False
        self.holding: Busy | None = None
        self.tick: Tick | None = None  # how far its step has come, until that is stored
        self.asked_s: float | None = None  # since when it has been asked to drop its step
        self.kind = ""
        self.last_sign_s = self.busy_since_s = clock.monotonic()
        self.connection, theirs = Pipe()
        command = [
            sys.executable,
            "-m",
            settings.worker_module,
            str(theirs.fileno()),
            worker_id,
            ",".join(work_classes),
        ]
        # A process group of its own: Ctrl-C on the terminal is the parent's business.
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, process_group=0)
        theirs.close()  # so that the end of the worker is the end of the pipe
        self.connection.send_bytes(settings.model_dump_json().encode())

    def end(self, patience_s: float) -> None:
        """Ends the process: it leaves when the pipe closes; one that hangs is killed."""
        self.connection.close()
        try:
            self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class LeaseKeeper(Companion):
    """Keeps one worker running beside this process, and its leases alive while it lives."""

    def __init__(self, settings: Settings, work_classes: tuple[str, ...] = ("cpu", "gpu")) -> None:
        self._settings = settings
        self._work_classes = work_classes
        self._child: Child | None = None
        self._stopping = threading.Event()
        self._drained = threading.Event()
        self._leaving = threading.Event()
        self._locks = open_locks(settings)
        self._thread = threading.Thread(target=self._keep, name="lease-keeper", daemon=True)

    def start(self, store: Store, advance: Advance, announcer: Announcer, doorbell: PipeDoorbell) -> None:
        self._store, self._advance, self._announcer, self._doorbell = store, advance, announcer, doorbell
        self._thread.start()

    def state(self) -> str:
        return "ready" if self._child is not None and self._child.ready else "starting"

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(self._settings.shutdown_grace_s + 5)

    def drain(self) -> None:
        """Lets the worker look for work, and returns when it has found no more: a busy one takes no second ring."""
        self._drained.clear()
        for work_class in self._work_classes:
            self._doorbell.ring(work_class)
        while not (self._drained.wait(0.5) or self._leaving.is_set() or self._stopping.is_set()):
            pass

    def stop_draining(self) -> None:
        """Makes `drain` return soon; called from a signal handler."""
        self._leaving.set()

    def leave(self) -> None:
        """Stops in good order: the worker finishes its step within the grace; what it still holds is given back."""
        self._leaving.set()
        child = self._child
        if child is not None:
            with suppress(OSError, ValueError):
                send(child.connection, Leave())
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(self._settings.shutdown_grace_s)
        self.stop()

    def _keep(self) -> None:
        if self._settings.is_embedded:
            # Only one server may use this database (it holds the lock), so whatever is held now is held by the dead.
            self._give_back(self._store.read_blocking(steps.held_steps), _LOST)
        pause_s = 0.0
        while not (self._stopping.wait(pause_s) or self._leaving.is_set()):
            born_s = clock.monotonic()
            try:
                self._raise_one()
            except Exception:  # no process, no memory: the next try may have more luck
                logger.exception("the worker's keeper failed", extra={"action": "keeper_failed"})
            lived_s = clock.monotonic() - born_s
            pause_s = 0.0 if lived_s > _LONGEST_PAUSE_S else min(2 * pause_s + 0.25, _LONGEST_PAUSE_S)

    def _raise_one(self) -> None:
        """One worker's whole life."""
        worker_id = ids.new_id()
        self._hold_life(worker_id)
        child = self._child = Child(self._settings, worker_id, self._work_classes)
        self._doorbell.connect(lambda hint: send(child.connection, hint))
        try:
            self._attend(child)
        except (EOFError, OSError):
            pass  # the pipe has ended, and so has the worker
        finally:
            self._bury(child)

    def _attend(self, child: Child) -> None:
        """Until the worker's pipe ends (EOFError), it hangs, or the server stops."""
        next_beat_s = clock.monotonic()
        while not self._stopping.is_set():
            if child.connection.poll(0.1):
                self._hear(child, receive_from_worker(child.connection))
            now_s = clock.monotonic()
            if now_s >= next_beat_s:
                next_beat_s = now_s + self._settings.lease_beat_s
                self._hold_life(child.worker_id)
                self._renew(child)
            if child.holding is not None and now_s - child.last_sign_s > self._settings.step_stall_s:
                self._ask_to_drop(child, child.holding)
            if child.asked_s is not None and now_s - child.asked_s > _SOFT_S:
                hanging = child.holding.step_id if child.holding else None
                logger.error("the worker hangs", extra={"action": "worker_hangs", "step": hanging})
                child.process.kill()
                return

    def _ask_to_drop(self, child: Child, held: Busy) -> None:
        """The soft end of a step without progress: a worker that still hears it keeps its checkpoint in memory."""
        if child.asked_s is None:
            logger.warning("a step stalls", extra={"action": "step_stalls", "step": held.step_id})
            child.asked_s = clock.monotonic()
            self._doorbell.halt_attempt(held.step_id, held.attempt)

    def _dropped(self, child: Child) -> None:
        """The child has let go of a step that had stalled: another attempt may fare better."""
        child.asked_s = None
        held = self._store.read_blocking(lambda tx: steps.held_steps(tx, child.worker_id))
        why = f"The step made no progress for {self._settings.step_stall_s:g} s."
        self._give_back(held, Retry(why, "stalled"))

    def _hear(self, child: Child, message: FromWorker) -> None:
        child.last_sign_s = clock.monotonic()
        match message:
            case Ready():
                child.ready = True
                logger.info("worker ready", extra={"action": "worker_ready", "worker": child.worker_id})
            case Busy(kind=kind) as busy:
                child.holding, child.kind, child.busy_since_s = busy, kind, child.last_sign_s
            case Idle():
                child.holding = child.tick = None
                if child.asked_s is not None:
                    self._dropped(child)
                self._announcer.tally.attempted(child.kind, child.last_sign_s - child.busy_since_s)
            case Counted(what, label):
                self._announcer.tally.count(what, *filter(None, (label,)))
            case Drained():
                self._drained.set()
            case Progressed(tick):
                child.tick = tick
                self._announcer.publish(tick)
            case Ring(work_class):
                self._announcer.ring((work_class,))
            case Halt(step_ids):
                self._announcer.halt(step_ids)
            case Beat():
                pass
            case wake:
                self._announcer.publish(wake)

    def _renew(self, child: Child) -> None:
        """One statement for all of the worker's leases and the last tick, which tells every process how far it is.

        An attempt that it has lost meanwhile it may as well drop. The word may come late, when the attempt has ended by
        itself and the worker is at the next one of the same step: so it names the attempt.
        """
        if child.holding is None:
            return
        holding, tick = child.holding, child.tick
        lease_s = self._settings.lease_s
        try:
            held = self._store.commit_blocking(
                lambda tx: steps.renew_leases(tx, child.worker_id, lease_s, tick), lasting=False
            )
        except Unavailable as error:
            logger.warning("lease not renewed", extra={"action": "renewal_failed", "error": error.message})
            return
        child.tick = None
        if holding.step_id not in held:
            self._doorbell.halt_attempt(holding.step_id, holding.attempt)

    def _bury(self, child: Child) -> None:
        """The worker is gone: what it held is given back at once, without waiting for a lease to run out."""
        self._doorbell.connect(None)
        self._child = None
        stopping = self._stopping.is_set() or self._leaving.is_set()
        child.end(self._settings.shutdown_grace_s if stopping else 1.0)
        if not stopping:
            status = {"exit_status": child.process.returncode}
            logger.warning("worker lost", extra={"action": "worker_lost", "worker": child.worker_id, **status})
        try:
            held = self._store.read_blocking(lambda tx: steps.held_steps(tx, child.worker_id))
            self._give_back(held, _CLOSED if stopping else _LOST)
            self._locks.release(child.worker_id)
        except Unavailable as error:  # the reaper will find them
            logger.warning("steps not given back", extra={"action": "give_back_failed", "error": error.message})

    def _give_back(self, held: list[Step], why: Retry) -> None:
        for step in held:
            notice = self._store.commit_blocking(lambda tx, step=step: self._advance.give_back(tx, step, why))  # type: ignore[misc]
            if notice is not None and notice.rings:
                self._announcer.tally.count("given_back", why.error_type)
            self._announcer.tell(notice)

    def _hold_life(self, worker_id: str) -> None:
        try:
            self._locks.hold(worker_id)
        except Unavailable as error:
            logger.warning("sign of life not held", extra={"action": "life_unheld", "error": error.message})


def parent_connection(descriptor: int) -> Connection:
    """The worker's end of the pipe that `Child` made."""
    os.set_inheritable(descriptor, False)
    return Connection(descriptor)
