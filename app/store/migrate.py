"""Brings a database to this version's tables, with Alembic's migrations from `migrations/`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, create_engine, make_url, text

from app.errors import SettingsInvalid
from app.settings import Settings
from app.store.schema import SCHEMA_HEAD, metadata
from app.store.store import open_session

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"

_VERSION = text("SELECT version_num FROM alembic_version")
_IS_MIGRATED_SQLITE = text("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'")
_IS_MIGRATED_POSTGRESQL = text("SELECT 1 WHERE to_regclass('alembic_version') IS NOT NULL")


def current_version(settings: Settings) -> str | None:
    """The migration that the database stands at; None for an empty one. Raises Unavailable."""
    session = open_session(settings)
    is_migrated = _IS_MIGRATED_SQLITE if settings.is_embedded else _IS_MIGRATED_POSTGRESQL
    try:
        row = session.query(lambda tx: tx.row(_VERSION) if tx.rows(is_migrated) else None)
    finally:
        session.close()
    return row[0] if row else None


def require_current(settings: Settings) -> None:
    """Refuses a database that stands at an older version. A newer one only has more: migrations come before the
    programs that need them, and take away only what no running program reads. Raises SettingsInvalid, Unavailable."""
    version = current_version(settings)
    if version is None or version < SCHEMA_HEAD:  # revisions begin with their date
        raise SettingsInvalid(
            f"The database's tables are at {version or 'nothing yet'}, this version of Atelier needs {SCHEMA_HEAD}: "
            "run `atelier db upgrade` first."
        )


def upgrade(settings: Settings) -> bool:
    """Runs the migrations that are missing; False when there was nothing to do. Raises SettingsInvalid, Unavailable."""
    # Alembic costs a quarter of a second to import; a second start needs none of it.
    if (current_version(settings) or "") >= SCHEMA_HEAD:
        return False
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.util import CommandError  # noqa: PLC0415

    with _alembic(settings) as (config, _):
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise SettingsInvalid(f"The database was written by another version of Atelier: {error}") from error
    return True


def differences(settings: Settings) -> list[object]:
    """What the migrated database lacks or has beyond `schema`; empty when migrations and tables match."""
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415 - as above
    from alembic.migration import MigrationContext  # noqa: PLC0415

    with _alembic(settings) as (_, connection):
        return list(compare_metadata(MigrationContext.configure(connection), metadata))


@contextmanager
def _alembic(settings: Settings) -> Iterator[tuple[Config, Connection]]:
    from alembic.config import Config  # noqa: PLC0415 - as above

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    url = make_url(settings.database_url or f"sqlite:///{settings.database_path}")
    engine = create_engine(url if settings.is_embedded else url.set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        if not settings.is_embedded:  # two that upgrade at once: the second finds nothing left to do
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(4121971)")
        config.attributes["connection"] = connection
        yield config, connection
    engine.dispose()
