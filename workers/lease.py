"""The parent's side of a worker: starts it, renews its leases, passes on what it tells, sees it die or hang.

The parent never touches torch, so neither a long load nor a crash of the engine can silence it.
"""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress

from app import clock, ids
from app.domain.event import Tick
from app.domain.run import NEIGHBOUR_HUNG, SERVER_STOPPED, WORKER_LOST, Retry
from app.errors import Unavailable
from app.queue.doorbell import Halt, Ring
from app.settings import Settings
from app.store import residents, steps
from app.store.engine import Tx
from app.store.locks import open_locks
from workers.child import Child, Held
from workers.link import (
    Beat,
    Busy,
    Counted,
    Drained,
    Elsewhere,
    FromWorker,
    Holds,
    Idle,
    Leave,
    Progressed,
    Ready,
    receive_from_worker,
    send,
)
from workers.ties import Ties

logger = logging.getLogger(__name__)

LOST = Retry("The worker was lost.", WORKER_LOST)
_CLOSED = Retry("The server was stopped.", SERVER_STOPPED)
_NEIGHBOUR = Retry("The worker was ended because of another step.", NEIGHBOUR_HUNG)
_LONGEST_PAUSE_S = 10.0
_SOFT_S = 5.0
_AWAY_S = 0.5


class LeaseKeeper:
    """Keeps one worker of a class running beside this process, and its leases alive while it lives.

    `waits`: the worker is started when there is something for it to do, or `want` says so. `then` is called when the
    worker has begun, for good or bad.
    """

    def __init__(
        self, settings: Settings, work_class: str, *, waits: bool = False, then: Callable[[], None] | None = None
    ) -> None:
        self.work_class = work_class
        self._settings = settings
        self._waits = waits
        self._then = then
        self._child: Child | None = None
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._drained = threading.Event()
        self._leaving = threading.Event()
        self._locks = open_locks(settings)
        self._thread = threading.Thread(target=self._keep, name=f"{work_class}-keeper", daemon=True)

    def start(self, ties: Ties) -> None:
        self._ties = ties
        ties.doorbell.when_absent(self.work_class, self.want)
        self._thread.start()

    def want(self) -> None:
        """Its worker is to be there, if it is not yet."""
        self._wanted.set()

    @property
    def is_ready(self) -> bool:
        return self._child is not None and self._child.ready

    def ask_to_stop(self) -> None:
        self._stopping.set()
        self._wanted.set()

    def stop(self) -> None:
        self.ask_to_stop()
        if self._thread.ident is not None:
            self._thread.join(self._settings.shutdown_grace_s + 5)

    def drain(self) -> None:
        """Lets the worker look for work, and returns when it has room and has found no more: one that is busy in all
        its lanes takes no second ring."""
        self._drained.clear()
        self._ties.doorbell.ring(self.work_class)
        while not (self._drained.wait(0.5) or self._leaving.is_set() or self._stopping.is_set()):
            pass

    def ask_to_leave(self) -> None:
        """Makes `drain` return soon, and lets the worker claim nothing more. Called from a signal handler, too."""
        self._leaving.set()
        self._wanted.set()

    def leave(self) -> None:
        """Stops in good order: the worker finishes its steps within the grace; what it still holds is given back. One
        that has not begun holds nothing, and nobody waits for what it is loading.
        """
        self.ask_to_leave()
        child = self._child
        if child is not None and child.ready:
            with suppress(OSError, ValueError):
                send(child.connection, Leave())
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(self._settings.shutdown_grace_s)
        self.stop()

    def _keep(self) -> None:
        pause_s = 0.0
        while not (self._stopping.wait(pause_s) or self._leaving.is_set()):
            if self._waits:
                self._wanted.wait()
                if self._stopping.is_set() or self._leaving.is_set():
                    return
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
        child = self._child = Child(self._settings, worker_id, self.work_class)
        self._ties.doorbell.connect(self.work_class, lambda hint: send(child.connection, hint))
        try:
            self._attend(child)
        except (EOFError, OSError):
            pass  # the pipe has ended, and so has the worker
        finally:
            self._bury(child)

    def _attend(self, child: Child) -> None:
        """Until the worker's pipe ends (EOFError), it hangs, or the server stops."""
        looked_s = next_beat_s = clock.monotonic()
        while not self._stopping.is_set():
            if child.connection.poll(0.1):
                self._hear(child, receive_from_worker(child.connection))
            now_s = clock.monotonic()
            if now_s - looked_s > _AWAY_S:  # frozen or waiting for the database: what was said meanwhile is unheard
                child.excuses(now_s - looked_s)
            looked_s = now_s
            if now_s >= next_beat_s:
                next_beat_s = now_s + self._settings.lease_beat_s
                self._hold_life(child.worker_id)
                self._renew(child)
                self._tell_residents(child)
                self._hear_of_dismissed(child)
            for held in child.held:
                if now_s - held.last_sign_s > self._settings.step_stall_s:
                    self._ask_to_drop(held)
                if held.asked_s is not None and now_s - held.asked_s > _SOFT_S:
                    logger.error("the worker hangs", extra={"action": "worker_hangs", "step": held.step_id})
                    child.hung = True
                    child.process.kill()
                    return

    def _ask_to_drop(self, held: Held) -> None:
        """The soft end of a step without progress: a worker that still hears it keeps its checkpoint in memory."""
        if held.asked_s is None:
            logger.warning("a step stalls", extra={"action": "step_stalls", "step": held.step_id})
            held.asked_s = clock.monotonic()
            self._ties.doorbell.halt_attempt(held.step_id, held.attempt)

    def _dropped(self, child: Child, dropped: Held) -> None:
        """The child has let go of a step that had stalled: another attempt may fare better."""
        held = self._ties.store.read_blocking(lambda tx: steps.held_steps(tx, child.worker_id))
        why = f"The step made no progress for {self._settings.step_stall_s:g} s."
        stalled = (step for step in held if (step.id, step.attempt) == (dropped.step_id, dropped.attempt))
        self._ties.give_back(stalled, Retry(why, "stalled"))

    def _hear(self, child: Child, message: FromWorker) -> None:
        announcer = self._ties.announcer
        match message:
            case Ready():
                child.ready = True
                self._has_begun()
                logger.info("worker ready", extra={"action": "worker_ready", "worker": child.worker_id})
            case Busy() as busy:
                child.takes(busy)
            case Idle(step_id, attempt):
                self._let_go(child, child.lets_go(step_id, attempt))
            case Counted(what, label):
                announcer.tally.count(what, *filter(None, (label,)))
            case Drained():
                self._drained.set()
            case Holds(held):
                child.houses(held)
                self._tell_residents(child)
            case Elsewhere(work_class):
                announcer.ring_all(work_class)
            case Progressed(tick):
                child.signs(tick.step_id, tick)
                announcer.publish(tick)
            case Ring(work_class):
                announcer.ring((work_class,))
            case Halt(step_ids):
                announcer.halt(step_ids)
            case Beat(step_id):
                child.signs(step_id)
            case wake:
                announcer.publish(wake)

    def _has_begun(self) -> None:
        if self._then is not None:
            self._then()

    def _let_go(self, child: Child, held: Held | None) -> None:
        if held is None:
            return
        if held.asked_s is not None:
            self._dropped(child, held)
        self._ties.announcer.tally.attempted(held.kind, clock.monotonic() - held.since_s)

    def _renew(self, child: Child) -> None:
        """One statement for all of the worker's leases and a last tick, which tells every process how far a step is.

        An attempt that it has lost meanwhile it may as well drop. The word may come late, when the attempt has ended by
        itself and the worker is at the next one of the same step: so it names the attempt.
        """
        holding = child.held
        if not holding:
            return
        told = [held.tick for held in holding if held.tick is not None]
        try:
            kept = self._ties.store.commit_blocking(lambda tx: self._renewed(tx, child, told), lasting=False)
        except Unavailable as error:
            logger.warning("lease not renewed", extra={"action": "renewal_failed", "error": error.message})
            return
        for held in holding:
            held.tick = None  # nothing was heard meanwhile: this is the thread that hears
            if held.step_id not in kept:
                self._ties.doorbell.halt_attempt(held.step_id, held.attempt)
                child.untold = True  # who took it for dead has forgotten its residents too

    def _renewed(self, tx: Tx, child: Child, told: list[Tick]) -> set[str]:
        """The steps that the worker still has. Each tick more is a statement more; few steps tell any."""
        kept = steps.renew_leases(tx, child.worker_id, self._settings.lease_s, told[0] if told else None)
        for tick in told[1:]:
            steps.renew_leases(tx, child.worker_id, self._settings.lease_s, tick)
        return kept

    def _tell_residents(self, child: Child) -> None:
        """What the worker has in memory, for the claims of others and for people; written only when it changes."""
        if not child.untold:
            return
        try:
            self._ties.store.commit_blocking(
                lambda tx: residents.replace_residents(tx, child.worker_id, child.residents), lasting=False
            )
            child.untold = False
        except Unavailable as error:
            logger.warning("residents not told", extra={"action": "residents_untold", "error": error.message})

    def _hear_of_dismissed(self, child: Child) -> None:
        """Somebody may want a checkpoint out of all memories."""
        if not child.residents:
            return
        store = self._ties.store
        with suppress(Unavailable):  # at the next beat, then
            dismissed = store.read_blocking(lambda tx: residents.dismissed(tx, child.worker_id))
            if dismissed:
                store.commit_blocking(lambda tx: residents.heard(tx, child.worker_id), lasting=False)
            for checkpoint in dismissed:
                self._ties.doorbell.unload(checkpoint)

    def _bury(self, child: Child) -> None:
        """The worker is gone: what it held is given back at once, without waiting for a lease to run out."""
        self._ties.doorbell.connect(self.work_class, None)
        self._child = None
        self._has_begun()
        stopping = self._stopping.is_set() or self._leaving.is_set()
        grace_s = self._settings.shutdown_grace_s if child.ready else 0.0
        child.end(grace_s if stopping else 1.0)
        if not stopping:
            status = {"exit_status": child.process.returncode}
            logger.warning("worker lost", extra={"action": "worker_lost", "worker": child.worker_id, **status})
        hanging = {(held.step_id, held.attempt) for held in child.held if held.asked_s is not None}
        try:
            held = self._ties.store.read_blocking(lambda tx: steps.held_steps(tx, child.worker_id))
            for step in held:
                is_innocent = child.hung and (step.id, step.attempt) not in hanging
                self._ties.give_back([step], _CLOSED if stopping else _NEIGHBOUR if is_innocent else LOST)
            self._ties.store.commit_blocking(lambda tx: residents.forget_residents(tx, child.worker_id))
        except Unavailable as error:  # the reaper will find them
            logger.warning("steps not given back", extra={"action": "give_back_failed", "error": error.message})
        self._end_life(child.worker_id)

    def _end_life(self, worker_id: str) -> None:
        with suppress(Unavailable):  # then it has ended with the session
            self._locks.release(worker_id)

    def _hold_life(self, worker_id: str) -> None:
        try:
            self._locks.hold(worker_id)
        except Unavailable as error:
            logger.warning("sign of life not held", extra={"action": "life_unheld", "error": error.message})
