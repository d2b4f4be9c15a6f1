"""What a unit of work may do, and what a database must be able to do for it: the same for SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any, Protocol

from sqlalchemy import ClauseElement
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.compiler import SQLCompiler

from app.errors import Unavailable

Row = tuple[Any, ...]
Values = Mapping[str, Any]


class Busy(Unavailable):
    """A transaction could not begin because another process writes; nothing was done."""


class Lost(Unavailable):
    """The connection is gone. Whether the transaction was committed is unknown: it must be safe to do again."""


class Conflict(Unavailable):
    """The transaction was undone because of another one; done again it may well succeed."""


class Cursor(Protocol):
    """What both drivers give for a statement."""

    @property
    def rowcount(self) -> int: ...

    def fetchall(self) -> list[Any]: ...


class Driver(Protocol):
    """A driver's connection, as far as a unit of work needs it."""

    def execute(self, text: Any, values: Any, /) -> Any: ...


class Compiled:
    """A statement as the driver takes it: its text, and how values by name become values by position.

    `constants` are the values that are part of the statement itself, such as a status that it compares with.
    """

    __slots__ = ("constants", "in_order", "of_record", "text")

    def __init__(self, statement: ClauseElement, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
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


Compile = Callable[[ClauseElement], Compiled]


def compiler(dialect: Dialect) -> Compile:
    """Statements are module constants, so each is compiled once; after that only text and values meet the driver."""
    return lru_cache(maxsize=512)(lambda statement: Compiled(statement, dialect))


def _picker(names: Sequence[str]) -> Callable[[Values], Any]:
    if not names:
        return lambda values: ()
    if len(names) == 1:
        return lambda values: (values[names[0]],)
    return itemgetter(*names)


class Tx:
    """What a unit of work may do inside its transaction: run statements of SQLAlchemy Core on the raw connection.

    Parameters are mappings by name. Nothing here goes through an ORM or a pool: a run's whole transaction is a
    handful of these calls (see docs/performance.md for what the other ways cost). `again` is True when the unit may
    have been committed before: the connection was lost, and nobody knows.
    """

    __slots__ = ("_compiled", "_connection", "again")

    def __init__(self, connection: Driver, compiled: Compile) -> None:
        self._connection = connection
        self._compiled = compiled
        self.again = False

    def run(self, statement: ClauseElement, values: Values | None = None) -> int:
        """Executes a statement; returns the number of rows that it changed."""
        return self._execute(statement, values).rowcount

    def put(self, statement: ClauseElement, values: Values) -> None:
        """Executes a statement whose result nobody needs: PostgreSQL is sent it without waiting for an answer."""
        compiled = self._compiled(statement)
        self._connection.execute(compiled.text, compiled.values(values))

    def put_record(self, statement: ClauseElement, record: object) -> None:
        """Executes an insert of all columns, whose values are the record's attributes of the same names."""
        compiled = self._compiled(statement)
        self._connection.execute(compiled.text, compiled.of_record(record))

    def rows(self, statement: ClauseElement, values: Values | None = None) -> list[Row]:
        """All rows of a query, or of a statement with RETURNING."""
        return self._execute(statement, values).fetchall()

    def row(self, statement: ClauseElement, values: Values | None = None) -> Row | None:
        """The first row, or None."""
        rows = self.rows(statement, values)
        return rows[0] if rows else None

    def _execute(self, statement: ClauseElement, values: Values | None) -> Cursor:
        compiled = self._compiled(statement)
        cursor: Cursor = self._connection.execute(compiled.text, compiled.values(values))
        return cursor


class Session(Protocol):
    """One connection to the database, used by one thread at a time."""

    waits: bool
    """True when every commit waits for something (a disk, a network): never on an event loop."""

    def transaction(self, work: Callable[[Tx], None], patience_s: float, *, again: bool, lasting: bool) -> None:
        """Does the work in a transaction; returns once it is durable. Raises Busy, Lost, Conflict, Unavailable.

        Not `lasting`: the last moments of these commits may be lost when the database's machine dies.
        """
        ...

    def query(self, query: Callable[[Tx], Any], *, of_one_moment: bool = False) -> Any:
        """Reads what was committed before; each statement, or all of them, as of one moment. Raises Unavailable."""
        ...

    def tidy(self) -> None:
        """Upkeep that the database does not do by itself."""
        ...

    def close(self) -> None: ...
