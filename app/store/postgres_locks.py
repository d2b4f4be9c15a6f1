"""Advisory locks on one session of PostgreSQL."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable
from typing import Any

import psycopg

from app.errors import Unavailable
from app.store.postgres import Connection, open_connection, patience

_REAPER_KEY = 4121972


class PostgresLocks:
    """The locks of one process, all on one session: they end with it.

    A server that has just started has no locks at all, so for the length of a lease after that nobody is called dead.
    """

    def __init__(self, url: str, lease_s: float) -> None:
        self._url = url
        self._lease_s = lease_s
        self._connection: Connection | None = None
        self._held: set[int] = set()
        self._in_use = threading.Lock()

    def lead(self) -> bool:
        with self._in_use:
            return self._take(_REAPER_KEY)

    def hold(self, worker_id: str) -> None:
        with self._in_use:
            self._take(_key(worker_id))

    def release(self, worker_id: str) -> None:
        with self._in_use:
            key = _key(worker_id)
            if key in self._held:
                self._held.discard(key)
                self._ask("SELECT pg_advisory_unlock(%s)", key)

    def dead_workers(self, worker_ids: Iterable[str]) -> set[str]:
        with self._in_use:
            up_s = self._ask("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float8")
            if up_s < self._lease_s:
                return set()
            return {
                worker_id
                for worker_id in worker_ids
                # A statement of its own: the lock is given back at its end.
                if _key(worker_id) not in self._held
                and self._ask("SELECT pg_try_advisory_xact_lock(%s)", _key(worker_id))
            }

    def close(self) -> None:
        with self._in_use:
            if self._connection is not None:
                self._connection.close()

    def _take(self, key: int) -> bool:
        """Takes a lock, or asks whether the session that has it is still there."""
        if self._connection is None or self._connection.closed:
            self._held.clear()
        if key in self._held:
            self._ask("SELECT 1")  # raises, and forgets the locks, when the session is gone
            return True
        if self._ask("SELECT pg_try_advisory_lock(%s)", key):
            self._held.add(key)
        return key in self._held

    def _ask(self, question: str, *values: int) -> Any:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = open_connection(self._url)
            with patience.of(self._connection):
                row = self._connection.execute(question, values).fetchone()
        except psycopg.Error as error:
            if self._connection is not None:
                self._connection.close()
            self._held.clear()
            raise Unavailable(f"The database can't be used at the moment: {error}.") from error
        return row[0] if row else None


def _key(worker_id: str) -> int:
    """A lock's number: 64 bits of the id's hash."""
    return int.from_bytes(hashlib.sha256(worker_id.encode()).digest()[:8], signed=True)
