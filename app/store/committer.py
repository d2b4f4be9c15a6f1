"""Group commit: units of work that wait at the same moment share one transaction, and hear of it once it is durable.

A commit that waits for nothing costs less than handing the work to another thread and back, where the two threads fight
for the interpreter besides (docs/performance.md has what was measured). So on an event loop it is done right there.
Whatever would wait (another process writes, every commit is synced to the disk, the database is a server) goes to a
thread instead, so the loop never stands still. What comes while a commit is under way shares the next one.

When the connection to a server is lost in the middle of a commit, nobody knows whether it happened. So the units are
done again: each finds by its guards what it has written already (`Tx.again`).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from app import clock
from app.errors import Unavailable
from app.store.engine import Busy, Conflict, Lost, Session, Tx
from app.store.sqlite import BUSY_TIMEOUT_S

T = TypeVar("T")
Unit = Callable[[Tx], T]

_MOST_UNITS = 256
_MOST_TURNS = 16
_LOST_PATIENCE_S = 8.0  # a server that restarts is back by then; after that callers get a 503
_CONFLICT_TRIES = 6


class _Work:
    """A unit of work and the future that waits for it."""

    __slots__ = ("alone", "error", "future", "result", "unit")

    def __init__(self, unit: Unit[Any], future: asyncio.Future[Any] | None = None, *, alone: bool = False) -> None:
        self.unit = unit
        self.future = future
        self.alone = alone
        self.result: Any = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        if self.future is None or self.future.done():  # the waiting request was cancelled; the commit stands
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Committer:
    """The one writing connection of a process.

    A unit may be run again after a rollback, so it changes nothing but the database.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.transactions = 0
        self._in_use = threading.Lock()
        self._waiting: list[_Work] = []
        self._loners = 0  # how many of them want a transaction of their own
        self._flushing = False
        self._closed = False

    async def commit(self, unit: Unit[T], *, alone: bool = False) -> T:
        """Runs the unit in a transaction with whatever else is waiting; returns once that is durable.

        `alone`: in one of its own. Units that lock rows which others lock too would wait for each other in a ring.
        """
        if self._closed:
            raise Unavailable("The server is shutting down.")
        loop = asyncio.get_running_loop()
        work = _Work(unit, loop.create_future(), alone=alone)
        self._waiting.append(work)
        self._loners += alone
        if not self._flushing:
            self._flushing = True
            loop.call_soon(self._gather, loop, 0, _MOST_TURNS)
        result: T = await work.future  # type: ignore[misc]
        return result

    def commit_blocking(self, unit: Unit[T], *, lasting: bool = True) -> T:
        """The same for a thread without an event loop; alone in its transaction."""
        if self._closed:
            raise Unavailable("The server is shutting down.")
        work = _Work(unit)
        with self._in_use:
            self._commit([work], BUSY_TIMEOUT_S, lasting=lasting)
        if work.error is not None:
            raise work.error
        result: T = work.result
        return result

    def close(self) -> None:
        with self._in_use:
            self._closed = True
            self._session.close()

    def _gather(self, loop: asyncio.AbstractEventLoop, seen: int, turns: int) -> None:
        """Lets the loop turn while each turn brings more units: a commit costs the same for one as for a dozen."""
        if seen < len(self._waiting) < _MOST_UNITS and turns:
            loop.call_soon(self._gather, loop, len(self._waiting), turns - 1)
        else:
            self._flush(loop)

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        most = self._up_to_a_loner() if self._loners else _MOST_UNITS
        batch, self._waiting = self._waiting[:most], self._waiting[most:]
        if self._session.waits or not self._in_use.acquire(blocking=False):
            self._flush_elsewhere(loop, batch)
            return
        try:
            done = self._commit(batch, 0)
        finally:
            self._in_use.release()
        if not done:
            self._flush_elsewhere(loop, batch)
            return
        self._told(loop, batch)

    def _up_to_a_loner(self) -> int:
        if self._waiting[0].alone:
            self._loners -= 1
            return 1
        first = next(number for number, work in enumerate(self._waiting) if work.alone)
        return min(first, _MOST_UNITS)

    def _flush_elsewhere(self, loop: asyncio.AbstractEventLoop, batch: list[_Work]) -> None:
        def wait_and_commit() -> None:
            with self._in_use:
                self._commit(batch, BUSY_TIMEOUT_S)

        waiting = loop.run_in_executor(None, wait_and_commit)
        waiting.add_done_callback(lambda _: self._told(loop, batch))

    def _told(self, loop: asyncio.AbstractEventLoop, batch: list[_Work]) -> None:
        for work in batch:
            work.settle()
        self._flushing = bool(self._waiting)
        if self._flushing:
            loop.call_soon(self._gather, loop, 0, _MOST_TURNS)

    def _commit(self, batch: list[_Work], patience_s: float, *, lasting: bool = True) -> bool:
        """Sets the result or the error of each; False when another process writes and that outlasted the patience."""
        error = self._try(batch, patience_s, lasting=lasting)
        if error is None:
            return True
        if patience_s == 0 and isinstance(error, Busy):
            return False
        if len(batch) == 1:
            batch[0].error = error
        elif isinstance(error, Lost):
            for work in batch:
                work.error = error
        else:
            # One bad unit must not fail its neighbours: each gets a transaction of its own.
            for work in batch:
                work.error = self._try([work], BUSY_TIMEOUT_S, lasting=lasting)
        return True

    def _try(self, batch: list[_Work], patience_s: float, *, lasting: bool) -> BaseException | None:
        """One transaction for the batch: done again while the connection is lost, and when it met another one."""
        until_s = clock.monotonic() + _LOST_PATIENCE_S
        conflicts, again, pause_s = 0, False, 0.05
        while True:
            try:
                self.transactions += 1
                self._session.transaction(lambda tx: _do(batch, tx), patience_s, again=again, lasting=lasting)
            except Lost as error:
                if clock.monotonic() > until_s:
                    return error
                again = True
            except Conflict as error:
                conflicts += 1
                if conflicts >= _CONFLICT_TRIES or len(batch) > 1:
                    return error
            except Exception as error:  # whatever it is, it belongs to whoever waits for the unit
                return error
            else:
                return None
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.5)


def _do(batch: list[_Work], tx: Tx) -> None:
    for work in batch:
        work.result = work.unit(tx)
