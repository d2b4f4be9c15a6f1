"""One writing thread a process, with group commit: whatever is waiting shares the next transaction.

A commit costs the same for one unit of work as for a hundred, so under load the units of many requests share it.
Nobody hears that a unit is done before the transaction that holds it is durable.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from app.errors import Unavailable
from app.store.engine import Tx, translated

T = TypeVar("T")
Unit = Callable[[Tx], T]

_MOST_UNITS = 256


class _Work:
    """A unit of work, and whom to tell: a future of an event loop, or one that a thread waits for."""

    __slots__ = ("error", "future", "loop", "result", "unit")

    def __init__(self, unit: Unit[Any], loop: asyncio.AbstractEventLoop | None) -> None:
        self.unit = unit
        self.loop = loop
        self.future: Any = loop.create_future() if loop else Future()
        self.result: Any = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        if self.future.done():  # the waiting request was cancelled; the commit stands all the same
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Committer:
    """Runs units of work. A unit may be run again after a rollback, so it changes nothing but the database."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._tx = Tx(connection)
        self._waiting: SimpleQueue[_Work | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="committer", daemon=True)
        self._closed = False
        self._thread.start()

    async def commit(self, unit: Unit[T]) -> T:
        """Runs the unit in a transaction; returns its result once that is durable."""
        work = _Work(unit, asyncio.get_running_loop())
        self._accept(work)
        result: T = await work.future
        return result

    def commit_blocking(self, unit: Unit[T]) -> T:
        """The same for a thread without an event loop."""
        work = _Work(unit, None)
        self._accept(work)
        result: T = work.future.result()
        return result

    def close(self) -> None:
        """Finishes what was accepted, then closes the connection."""
        self._closed = True
        self._waiting.put(None)
        self._thread.join(timeout=30)
        self._connection.close()

    def _accept(self, work: _Work) -> None:
        if self._closed:
            raise Unavailable("The server is shutting down.")
        self._waiting.put(work)

    def _serve(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, last = [first], False
            while len(batch) < _MOST_UNITS and not last:
                try:
                    work = self._waiting.get_nowait()
                except Empty:
                    break
                if work is None:
                    last = True
                else:
                    batch.append(work)
            self._commit(batch)
            self._tell(batch)
            if last:
                return

    def _commit(self, batch: list[_Work]) -> None:
        error = self._transaction(batch)
        if error is None:
            return
        if len(batch) == 1:
            batch[0].error = error
            return
        # One bad unit must not fail its neighbours: each gets a transaction of its own.
        for work in batch:
            work.error = self._transaction([work])

    def _transaction(self, batch: list[_Work]) -> BaseException | None:
        try:
            with translated():
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    for work in batch:
                        work.result = work.unit(self._tx)
                    self._connection.execute("COMMIT")
                except BaseException:
                    # SQLite has rolled back by itself when the disk is full.
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    raise
        except Exception as error:  # whatever it is, it belongs to whoever waits for the unit
            return error
        return None

    @staticmethod
    def _tell(batch: list[_Work]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[_Work]] = {}
        for work in batch:
            if work.loop is None:
                work.settle()
            else:
                by_loop.setdefault(work.loop, []).append(work)
        for loop, works in by_loop.items():
            try:
                loop.call_soon_threadsafe(_settle_all, works)
            except RuntimeError:  # the loop is closed: nobody waits any more
                continue


def _settle_all(works: list[_Work]) -> None:
    for work in works:
        work.settle()
