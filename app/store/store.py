"""The store of one process: one committer for writing, a few connections for reading."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TypeVar

from app.settings import Settings
from app.store.committer import Committer, Unit
from app.store.engine import Session
from app.store.sqlite import SqliteSession

T = TypeVar("T")

_READERS = 4


class Store:
    """Everything that outlives the process. Opened once a process, closed at its end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._committer = Committer(open_session(settings))
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="reader")
        self._own = threading.local()
        self._opened: list[Session] = []
        self.reads = 0  # queries that were asked for on the event loop

    async def commit(self, unit: Unit[T], *, alone: bool = False) -> T:
        """Runs a unit of work in a transaction; returns once that is durable. Raises Unavailable, or the unit's own.

        `alone`: one that locks what units of other processes lock too, in whatever order they come there.
        """
        return await self._committer.commit(unit, alone=alone)

    def commit_blocking(self, unit: Unit[T], *, lasting: bool = True) -> T:
        """The same for a thread. Not `lasting`: what can be done again (a claim, a renewal) waits for no disk."""
        return self._committer.commit_blocking(unit, lasting=lasting)

    @property
    def transactions(self) -> int:
        """How many transactions this process has begun for writing."""
        return self._committer.transactions

    async def read(self, query: Unit[T], *, of_one_moment: bool = False) -> T:
        """Runs a query beside the writer: readers never wait for it, and see what was committed before.

        `of_one_moment`: all of its statements see the same, whatever is committed between them.
        """
        self.reads += 1
        run = copy_context().run  # a line that is logged there belongs to whoever asked
        work = partial(self.read_blocking, query, of_one_moment=of_one_moment)
        return await asyncio.get_running_loop().run_in_executor(self._readers, run, work)

    async def find(self, query: Unit[T], *, of_one_moment: bool = False) -> T:
        """The same for what costs next to nothing: a few rows by their keys.

        Where that waits for nobody (SQLite) it is done right here: handing it to a thread and back takes several times
        as long, because the two fight for the interpreter.
        """
        if not self._settings.is_embedded:
            return await self.read(query, of_one_moment=of_one_moment)
        self.reads += 1
        return self.read_blocking(query, of_one_moment=of_one_moment)

    def read_blocking(self, query: Unit[T], *, of_one_moment: bool = False) -> T:
        found: T = self._reader().query(query, of_one_moment=of_one_moment)
        return found

    async def tidy(self) -> None:
        """Upkeep that the database does not do by itself."""
        await asyncio.get_running_loop().run_in_executor(self._readers, lambda: self._reader().tidy())

    def close(self) -> None:
        self._readers.shutdown()
        self._committer.close()
        for session in self._opened:
            session.close()

    def _reader(self) -> Session:
        session: Session | None = getattr(self._own, "session", None)
        if session is None:
            session = self._own.session = open_session(self._settings)
            self._opened.append(session)
        return session


def open_session(settings: Settings) -> Session:
    """A connection to the database that the settings choose. Raises Unavailable."""
    if settings.is_embedded:
        return SqliteSession(settings.database_path, settings.durability)
    from app.store.postgres import PostgresSession  # noqa: PLC0415 - the embedded form has no use for the driver

    return PostgresSession(settings.database_url)
