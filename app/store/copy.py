"""Copies a SQLite database into an empty PostgreSQL database: every row of every table, or nothing at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, NullPool, RowMapping, Table, create_engine, delete, func, insert, make_url, select
from sqlalchemy.exc import SQLAlchemyError

from app.domain.run import StepStatus
from app.errors import SettingsInvalid, Unavailable
from app.settings import Settings
from app.store.migrate import current_version, require_current
from app.store.schema import SCHEMA_HEAD, apps, metadata, residents, revisions, steps, workflows

_PAGE_ROWS = 500
# A table comes after those that it refers to. What workers have in memory is nothing that could be moved.
_TABLES: list[Table] = [table for table in metadata.sorted_tables if table is not residents]
# What `atelier db upgrade` leaves in a new database: the app that every installation has, and the revision that it
# raised. The source's own replace them.
_FRESH = {apps.name: 1, workflows.name: 1, revisions.name: 1}

OnRows = Callable[[int, int], None]
"""Told how many rows are copied, and of how many."""


def require_copyable(source: Settings, target: Settings) -> None:
    """Looks before anything is copied. Raises SettingsInvalid with what is in the way, Unavailable."""
    if not source.is_embedded:
        raise SettingsInvalid("The source must be a SQLite database: sqlite:///PATH, or no DATABASE_URL at all.")
    if target.is_embedded:
        raise SettingsInvalid("The target must be a PostgreSQL database: postgresql://user:password@host/name.")
    if not source.database_path.is_file():
        raise SettingsInvalid(f"There is no database at {source.database_path}.")
    version = current_version(source)
    if version != SCHEMA_HEAD:
        raise SettingsInvalid(
            f"The tables in {source.database_path} are at {version or 'nothing yet'}, this version of Atelier copies "
            f"{SCHEMA_HEAD}: start it on them once, or use the version that they belong to."
        )
    require_current(target)
    with _postgresql(target) as new:
        _require_fresh(new)


def copy_rows(source: Settings, target: Settings, on_rows: OnRows) -> dict[str, int]:
    """Copies all rows in one transaction of the target; returns how many each table has, counted on both sides.

    Nobody writes to either side meanwhile: the source is locked as by a writer, the target's tables against all others.
    A step that was running becomes ready: its worker does not exist for the new database, and its attempt's number
    goes on. Deadlines stay as they are. Raises as `require_copyable` does; then the target is as it was before.
    """
    require_copyable(source, target)
    with _sqlite(source) as old, _postgresql(target) as new:
        new.exec_driver_sql(f"LOCK TABLE {', '.join(table.name for table in _TABLES)} IN EXCLUSIVE MODE")
        _require_fresh(new)
        for table in reversed(_TABLES):
            new.execute(delete(table))
        expected = _counts(old)
        done, total = 0, sum(expected.values())
        for table in _TABLES:
            for page in old.execution_options(yield_per=_PAGE_ROWS).execute(select(table)).mappings().partitions():
                new.execute(insert(table), [_for_postgresql(table, row) for row in page])
                done += len(page)
                on_rows(done, total)
        found = _counts(new)
        if found != expected:
            raise Unavailable(f"The copy has {found} rows, the source {expected}: nothing was copied.")
    return found


def _require_fresh(new: Connection) -> None:
    found = _counts(new)
    if any(count > _FRESH.get(name, 0) for name, count in found.items()):
        held = ", ".join(f"{count} {name}" for name, count in found.items() if count and name != revisions.name)
        raise SettingsInvalid(
            f"The target is not empty (it has {held}): copy into a database that only `atelier db upgrade` has written."
        )


def _counts(connection: Connection) -> dict[str, int]:
    return {table.name: connection.scalar(select(func.count()).select_from(table)) or 0 for table in _TABLES}


def _for_postgresql(table: Table, row: RowMapping) -> dict[str, Any]:
    """The row as the new database can hold it: its text has no NUL, and nobody holds its steps."""
    new = {name: value.replace("\0", "\ufffd") if isinstance(value, str) else value for name, value in row.items()}
    if table is steps and new["status"] == StepStatus.RUNNING.value:
        new |= {"status": StepStatus.READY.value, "worker_id": None, "lease_expires_at": None, "claimed_at": None}
    return new


@contextmanager
def _sqlite(settings: Settings) -> Iterator[Connection]:
    """The source as one snapshot, which no other process writes to meanwhile."""
    engine = create_engine(f"sqlite:///{settings.database_path}", isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with _translated(), engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            yield connection
        finally:
            connection.exec_driver_sql("ROLLBACK")


@contextmanager
def _postgresql(settings: Settings) -> Iterator[Connection]:
    """The target in a transaction, committed at the end of the block."""
    url = make_url(settings.database_url).set(drivername="postgresql+psycopg")
    options = {"connect_timeout": 3, "options": "-c lock_timeout=10s"}
    with _translated(), create_engine(url, connect_args=options, poolclass=NullPool).begin() as connection:
        yield connection


@contextmanager
def _translated() -> Iterator[None]:
    """Turns the drivers' trouble into one sentence, without the rows that it was about."""
    try:
        yield
    except SQLAlchemyError as error:
        told = str(getattr(error, "orig", None) or error).strip().splitlines()[0].rstrip(".")
        raise Unavailable(f"Nothing was copied: {told}.") from error
