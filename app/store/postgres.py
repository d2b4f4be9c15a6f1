"""PostgreSQL 13 or newer: the database of the production form."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import psycopg
from psycopg import pq
from sqlalchemy import ClauseElement
from sqlalchemy.dialects import postgresql

from app import clock
from app.errors import Unavailable
from app.store.engine import Conflict, Driver, Lost, Tx, Values, compiler

# Waits are bounded on every side: for a dead machine (keepalives), for a lock that somebody holds, and for us, when we
# are frozen in the middle of a transaction and would keep others out.
_OPTIONS = "-c statement_timeout=15s -c lock_timeout=10s -c idle_in_transaction_session_timeout=5s"
_KEEPALIVES: dict[str, Any] = {
    "connect_timeout": 3,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 2,
    "tcp_user_timeout": 4000,  # milliseconds
}

_compiled = compiler(postgresql.dialect(paramstyle="format"))  # type: ignore[no-untyped-call]

Connection = psycopg.Connection[tuple[Any, ...]]

PATIENCE_S = 20.0
"""How long a transaction or a query may take; the server's own limits come first, unless it is frozen or cut off."""


class _Patience:
    """Cuts connections whose answer is overdue: a frozen server or a silent network would hold a thread for ever."""

    def __init__(self) -> None:
        self._until_s: dict[int, tuple[Connection, float]] = {}
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @contextmanager
    def of(self, connection: Connection) -> Iterator[None]:
        """The connection is cut when the block takes longer than PATIENCE_S."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="patience", daemon=True)
                self._thread.start()
        self._until_s[id(connection)] = (connection, clock.monotonic() + PATIENCE_S)
        try:
            yield
        finally:
            self._until_s.pop(id(connection), None)

    def _watch(self) -> None:
        while True:
            time.sleep(1.0)
            now_s = clock.monotonic()
            for connection, until_s in list(self._until_s.values()):
                if until_s < now_s and not connection.closed:
                    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as line:
                        line.shutdown(socket.SHUT_RDWR)


patience = _Patience()


def open_connection(url: str) -> Connection:
    """A connection without implicit transactions. Raises Unavailable."""
    try:
        return psycopg.connect(url, autocommit=True, options=_OPTIONS, **_KEEPALIVES)
    except psycopg.Error as error:
        raise Lost(f"The database can't be reached: {_first_line(error)}.") from error


class PostgresSession:
    """A connection that is opened when it is needed, and again when it was lost."""

    waits = True

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection | None = None
        self._closed = False

    def transaction(
        self, work: Callable[[Tx], None], patience_s: float, *, again: bool = False, lasting: bool = True
    ) -> None:
        connection = self._open()
        with self._translated(connection), patience.of(connection):
            try:
                # A pipeline: statements whose results nobody waits for travel with the commit, in one round trip.
                with connection.pipeline() as pipeline:
                    connection.execute("BEGIN")
                    if not lasting:
                        connection.execute("SET LOCAL synchronous_commit = off")
                    tx = _PipelineTx(connection, pipeline)
                    tx.again = again
                    work(tx)
                    connection.execute("COMMIT")
            except BaseException:
                if not connection.closed and connection.info.transaction_status != pq.TransactionStatus.IDLE:
                    with suppress(psycopg.Error):
                        connection.execute("ROLLBACK")
                raise

    def query(self, query: Callable[[Tx], Any], *, of_one_moment: bool = False) -> Any:
        try:
            return self._query(query, of_one_moment)
        except Lost:
            return self._query(query, of_one_moment)  # a connection that lay idle may have died long ago

    def tidy(self) -> None:
        """Nothing: the server's own processes do it."""

    def close(self) -> None:
        self._closed = True
        if self._connection is not None:
            self._connection.close()

    def _query(self, query: Callable[[Tx], Any], of_one_moment: bool) -> Any:
        connection = self._open()
        with self._translated(connection), patience.of(connection):
            tx = Tx(cast("Driver", connection), _compiled)
            if not of_one_moment:
                return query(tx)
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                return query(tx)
            finally:
                if not connection.closed:
                    with suppress(psycopg.Error):
                        connection.execute("ROLLBACK")

    def _open(self) -> Connection:
        if self._closed:
            raise Unavailable("The server is shutting down.")
        if self._connection is None or self._connection.closed:
            self._connection = open_connection(self._url)
        return self._connection

    @contextmanager
    def _translated(self, connection: Connection) -> Iterator[None]:
        """Turns the driver's trouble into ours: lost connections, conflicts, and what only time can mend."""
        try:
            yield
        except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure) as error:
            raise Conflict(f"Two transactions were in each other's way: {_first_line(error)}.") from error
        except (psycopg.errors.DiskFull, psycopg.errors.OutOfMemory) as error:
            raise Unavailable(f"The database has no room: {_first_line(error)}.") from error
        except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable) as error:
            raise Unavailable(f"The database is too slow at the moment: {_first_line(error)}.") from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            connection.close()
            raise Lost(f"The connection to the database was lost: {_first_line(error)}.") from error
        except psycopg.errors.ReadOnlySqlTransaction as error:
            connection.close()  # an old primary after a failover: the next connection finds the new one
            raise Lost("The database only reads at the moment.") from error


class _PipelineTx(Tx):
    """Inside a pipeline the number of changed rows is known only after a round trip."""

    __slots__ = ("_pipeline",)

    def __init__(self, connection: Connection, pipeline: psycopg.Pipeline) -> None:
        super().__init__(cast("Driver", connection), _compiled)
        self._pipeline = pipeline

    def run(self, statement: ClauseElement, values: Values | None = None) -> int:
        cursor = self._execute(statement, values)
        self._pipeline.sync()
        return cursor.rowcount


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0].rstrip(".") if text else type(error).__name__
