"""Brings a database to this version's tables, with Alembic's migrations from `migrations/`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, create_engine

from app.errors import SettingsInvalid
from app.settings import Settings
from app.store.engine import connect
from app.store.schema import SCHEMA_HEAD, metadata

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


def current_version(settings: Settings) -> str | None:
    """The migration that the database stands at; None for an empty one. Raises Unavailable."""
    with closing(connect(settings.database_path, settings.durability)) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError:
            return None
    return row[0] if row else None


def upgrade(settings: Settings) -> bool:
    """Runs the migrations that are missing; False when there was nothing to do. Raises SettingsInvalid, Unavailable."""
    # Alembic costs a quarter of a second to import; a second start needs none of it.
    if current_version(settings) == SCHEMA_HEAD:
        return False
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.util import CommandError  # noqa: PLC0415

    with _alembic(settings) as (config, _):
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise SettingsInvalid(
                f"The database {settings.database_path} was written by another version of Atelier: {error}"
            ) from error
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
    engine = create_engine(f"sqlite:///{settings.database_path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        yield config, connection
    engine.dispose()
