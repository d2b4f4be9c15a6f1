"""The store of one process: one committer for writing, a few connections for reading."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from app.settings import Settings
from app.store.committer import Committer, Unit
from app.store.engine import Tx, connect, translated

T = TypeVar("T")

_READERS = 4


class Store:
    """Everything that outlives the process. Opened once a process, closed at its end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        connection = connect(settings.database_path, settings.durability)
        self._committer = Committer(connection, syncs=settings.durability == "power")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="reader")
        self._own = threading.local()
        self._opened: list[sqlite3.Connection] = []

    async def commit(self, unit: Unit[T]) -> T:
        """Runs a unit of work in a transaction; returns once that is durable. Raises Unavailable, or the unit's own."""
        return await self._committer.commit(unit)

    def commit_blocking(self, unit: Unit[T]) -> T:
        return self._committer.commit_blocking(unit)

    async def read(self, query: Unit[T]) -> T:
        """Runs a query beside the writer: readers never wait for it, and see what was committed before."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self.read_blocking, query)

    def read_blocking(self, query: Unit[T]) -> T:
        with translated():
            tx: Tx | None = getattr(self._own, "tx", None)
            if tx is None:
                connection = connect(self._settings.database_path, self._settings.durability)
                self._opened.append(connection)
                tx = self._own.tx = Tx(connection)
            return query(tx)

    async def checkpoint(self) -> None:
        """Moves what is committed from the write-ahead log into the database, so that the log stays short."""
        await self.read(lambda tx: tx.checkpoint())

    def close(self) -> None:
        self._readers.shutdown()
        self._committer.close()
        for connection in self._opened:
            connection.close()
