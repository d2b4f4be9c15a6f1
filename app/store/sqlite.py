"""SQLite in WAL mode: the database of the embedded form."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from sqlalchemy.dialects import sqlite

from app.errors import Unavailable
from app.store.engine import Busy, Tx, compiler

BUSY_TIMEOUT_S = 10.0
_LONG_LOG_PAGES = 4096  # 16 MiB

_compiled = compiler(sqlite.dialect(paramstyle="qmark"))


class SqliteSession:
    """A connection in WAL mode without implicit transactions."""

    def __init__(self, path: Path, durability: Literal["process", "power"]) -> None:
        """Raises Unavailable with one sentence."""
        self.waits = durability == "power"
        with _translated():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode=WAL")
            # It would make a commit wait for the disk: `tidy` does it.
            self._connection.execute("PRAGMA wal_autocheckpoint=0")
            # NORMAL outlives a killed process, FULL (an fsync each commit) a power cut.
            self._connection.execute(f"PRAGMA synchronous={'FULL' if self.waits else 'NORMAL'}")
        self._tx = Tx(self._connection, _compiled)

    def transaction(
        self, work: Callable[[Tx], None], patience_s: float, *, again: bool = False, lasting: bool = True
    ) -> None:
        connection = self._connection
        with _translated():
            connection.execute(f"PRAGMA busy_timeout={int(patience_s * 1000)}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                work(self._tx)
                connection.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself when the disk is full.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def query(self, query: Callable[[Tx], Any], *, of_one_moment: bool = False) -> Any:
        with _translated():
            if not of_one_moment:
                return query(self._tx)
            self._connection.execute("BEGIN")
            try:
                return query(self._tx)
            finally:
                self._connection.execute("ROLLBACK")

    def tidy(self) -> None:
        """Copies the write-ahead log into the database.

        While there is always somebody who writes, the log would only ever grow. So when it has become long, and most
        of it is copied, writers wait for the short rest, and the log begins anew.
        """
        with _translated():
            _, pages, _ = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if pages > _LONG_LOG_PAGES:
                self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()

    def close(self) -> None:
        self._connection.close()


@contextmanager
def _translated() -> Iterator[None]:
    """Turns the driver's trouble into Unavailable: the caller may come again, a program error stays one."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise
    except (sqlite3.OperationalError, sqlite3.DatabaseError) as error:
        if "full" in str(error):
            raise Unavailable("The disk is full: nothing more can be stored until there is room again.") from error
        kind = Busy if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY else Unavailable
        raise kind(f"The database can't be used at the moment: {error}.") from error
    except OSError as error:
        named = f" ({error.filename})" if error.filename else ""
        raise Unavailable(f"The data folder{named} can't be used: {error.strerror or error}.") from error
