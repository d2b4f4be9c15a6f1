"""Connections to the database: how they are opened, which dialect compiles for them, and their errors as ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import ClauseElement
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.compiler import SQLCompiler

from app.errors import Unavailable

Row = tuple[Any, ...]
Values = Mapping[str, Any]

_DIALECT = sqlite.dialect(paramstyle="qmark")
BUSY_TIMEOUT_S = 10.0
_LONG_LOG_PAGES = 4096  # 16 MiB


def connect(path: Path, durability: Literal["process", "power"]) -> sqlite3.Connection:
    """A connection in WAL mode without implicit transactions. Raises Unavailable with one sentence."""
    with translated():
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(
            "PRAGMA wal_autocheckpoint=0"
        )  # it would make a commit wait for the disk: `Store.checkpoint`
        # NORMAL outlives a killed process, FULL (an fsync each commit) a power cut.
        connection.execute(f"PRAGMA synchronous={'FULL' if durability == 'power' else 'NORMAL'}")
    return connection


def is_busy(error: BaseException) -> bool:
    """True when a transaction could not begin because another process writes."""
    cause = error.__cause__
    return isinstance(cause, sqlite3.OperationalError) and cause.sqlite_errorcode == sqlite3.SQLITE_BUSY


class _Compiled:
    """A statement as the driver takes it: its text, and how values by name become values by position.

    `constants` are the values that are part of the statement itself, such as a status that it compares with.
    """

    __slots__ = ("constants", "in_order", "of_record", "text")

    def __init__(self, statement: ClauseElement) -> None:
        compiled = statement.compile(dialect=_DIALECT)
        if not isinstance(compiled, SQLCompiler):
            raise TypeError(f"not a statement with values: {statement}")
        names = compiled.positiontup or []
        self.text = str(compiled)
        self.constants = {name: bind.value for bind, name in compiled.bind_names.items() if not bind.required}
        self.in_order: Callable[[Values], Any] = _picker(names)
        self.of_record: Callable[[object], Any] = attrgetter(*names) if len(names) > 1 else lambda record: ()

    def values(self, values: Values | None) -> Any:
        if self.constants:
            values = {**self.constants, **values} if values else self.constants
        return self.in_order(values or {})


def _picker(names: Sequence[str]) -> Callable[[Values], Any]:
    if not names:
        return lambda values: ()
    if len(names) == 1:
        return lambda values: (values[names[0]],)
    return itemgetter(*names)


# Statements are module constants, so each is compiled once; after that only text and values meet the driver.
_compiled = lru_cache(maxsize=512)(_Compiled)


@contextmanager
def translated() -> Iterator[None]:
    """Turns the driver's trouble into Unavailable: the caller may come again, a program error stays one."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise
    except (sqlite3.OperationalError, sqlite3.DatabaseError) as error:
        if "full" in str(error):
            raise Unavailable("The disk is full: nothing more can be stored until there is room again.") from error
        raise Unavailable(f"The database can't be used at the moment: {error}.") from error
    except OSError as error:
        raise Unavailable(f"The data folder can't be used: {error.strerror or error}.") from error


class Tx:
    """What a unit of work may do inside its transaction: run statements of SQLAlchemy Core on the raw connection.

    Parameters are mappings by name. Nothing here goes through an ORM or a pool: a run's whole transaction is a
    handful of these calls (see docs/performance.md for what the other ways cost).
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def run(self, statement: ClauseElement, values: Values | None = None) -> int:
        """Executes a statement; returns the number of rows that it changed."""
        return self._execute(statement, values).rowcount

    def insert(self, statement: ClauseElement, record: object) -> None:
        """Executes an insert of all columns, whose values are the record's attributes of the same names."""
        compiled = _compiled(statement)
        self._connection.execute(compiled.text, compiled.of_record(record))

    def run_many(self, statement: ClauseElement, values: Sequence[Values]) -> None:
        """Executes a statement without values of its own once for each mapping."""
        if values:
            compiled = _compiled(statement)
            self._connection.executemany(compiled.text, map(compiled.in_order, values))

    def rows(self, statement: ClauseElement, values: Values | None = None) -> list[Row]:
        """All rows of a query, or of a statement with RETURNING."""
        return self._execute(statement, values).fetchall()

    def row(self, statement: ClauseElement, values: Values | None = None) -> Row | None:
        """The first row, or None."""
        rows = self.rows(statement, values)
        return rows[0] if rows else None

    def checkpoint(self) -> None:
        """Copies the write-ahead log into the database. Not inside a transaction.

        While there is always somebody who writes, the log would only ever grow. So when it has become long, and most
        of it is copied, writers wait for the short rest, and the log begins anew.
        """
        _, pages, _ = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if pages > _LONG_LOG_PAGES:
            self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()

    def _execute(self, statement: ClauseElement, values: Values | None) -> sqlite3.Cursor:
        compiled = _compiled(statement)
        return self._connection.execute(compiled.text, compiled.values(values))
