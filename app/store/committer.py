"""Group commit: units of work that wait at the same moment share one transaction, and hear of it once it is durable.

A commit that waits for nothing costs less than handing the work to another thread and back, where the two threads fight
for the interpreter besides (docs/performance.md has what was measured). So on an event loop it is done right there.
Whatever would wait (another process writes, or every commit is synced to the disk) goes to a thread instead, so the
loop never stands still. Checkpoints, which sync too, are no part of a commit: see `Store.checkpoint`.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from app.errors import Unavailable
from app.store.engine import BUSY_TIMEOUT_S, Tx, is_busy, translated

T = TypeVar("T")
Unit = Callable[[Tx], T]

_MOST_UNITS = 256
_MOST_TURNS = 16


class _Work:
    """A unit of work and the future that waits for it."""

    __slots__ = ("error", "future", "result", "unit")

    def __init__(self, unit: Unit[Any], future: asyncio.Future[Any] | None = None) -> None:
        self.unit = unit
        self.future = future
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

    def __init__(self, connection: sqlite3.Connection, *, syncs: bool) -> None:
        self._connection = connection
        self._tx = Tx(connection)
        self._syncs = syncs
        self._in_use = threading.Lock()
        self._waiting: list[_Work] = []
        self._flushing = False
        self._closed = False

    async def commit(self, unit: Unit[T]) -> T:
        """Runs the unit in a transaction with whatever else is waiting; returns once that is durable."""
        if self._closed:
            raise Unavailable("The server is shutting down.")
        loop = asyncio.get_running_loop()
        work = _Work(unit, loop.create_future())
        self._waiting.append(work)
        if not self._flushing:
            self._flushing = True
            loop.call_soon(self._gather, loop, 0, _MOST_TURNS)
        result: T = await work.future  # type: ignore[misc]
        return result

    def commit_blocking(self, unit: Unit[T]) -> T:
        """The same for a thread without an event loop."""
        if self._closed:
            raise Unavailable("The server is shutting down.")
        work = _Work(unit)
        with self._in_use:
            self._commit([work], BUSY_TIMEOUT_S)
        if work.error is not None:
            raise work.error
        result: T = work.result
        return result

    def close(self) -> None:
        with self._in_use:
            self._closed = True
            self._connection.close()

    def _gather(self, loop: asyncio.AbstractEventLoop, seen: int, turns: int) -> None:
        """Lets the loop turn while each turn brings more units: a commit costs the same for one as for a dozen."""
        if seen < len(self._waiting) < _MOST_UNITS and turns:
            loop.call_soon(self._gather, loop, len(self._waiting), turns - 1)
        else:
            self._flush(loop)

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        batch, self._waiting = self._waiting[:_MOST_UNITS], self._waiting[_MOST_UNITS:]
        if self._syncs or not self._in_use.acquire(blocking=False):
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

    def _commit(self, batch: list[_Work], patience_s: float) -> bool:
        """Sets the result or the error of each; False when another process writes and that outlasted the patience."""
        error = self._transaction(batch, patience_s)
        if error is None:
            return True
        if patience_s == 0 and is_busy(error):
            return False
        if len(batch) == 1:
            batch[0].error = error
            return True
        # One bad unit must not fail its neighbours: each gets a transaction of its own.
        for work in batch:
            work.error = self._transaction([work], BUSY_TIMEOUT_S)
        return True

    def _transaction(self, batch: list[_Work], patience_s: float) -> BaseException | None:
        connection = self._connection
        try:
            with translated():
                connection.execute(f"PRAGMA busy_timeout={int(patience_s * 1000)}")
                connection.execute("BEGIN IMMEDIATE")
                try:
                    for work in batch:
                        work.result = work.unit(self._tx)
                    connection.execute("COMMIT")
                except BaseException:
                    # SQLite has rolled back by itself when the disk is full.
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
        except Exception as error:  # whatever it is, it belongs to whoever waits for the unit
            return error
        return None
