"""The migrations and the tables are the same thing told twice."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from app.errors import SettingsInvalid
from app.settings import Settings, load_settings
from app.store.migrate import MIGRATIONS, current_version, differences, require_current, upgrade
from app.store.schema import SCHEMA_HEAD


def test_a_migrated_database_has_the_tables_of_the_program(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    assert current_version(settings) is None
    assert upgrade(settings) is True
    assert differences(settings) == []


def test_a_second_upgrade_has_nothing_to_do(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    upgrade(settings)
    assert upgrade(settings) is False
    assert current_version(settings) == SCHEMA_HEAD


def test_a_table_that_differs_is_found(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    upgrade(settings)
    with sqlite3.connect(settings.database_path) as db:
        db.execute("ALTER TABLE runs ADD COLUMN extra TEXT")
    assert differences(settings)


def at_version(tmp_path: Path, version: str) -> Settings:
    settings = load_settings(data_dir=tmp_path)
    upgrade(settings)
    with sqlite3.connect(settings.database_path) as db:
        db.execute("UPDATE alembic_version SET version_num = ?", (version,))
    return settings


def test_an_old_program_runs_on_a_newer_schema(tmp_path: Path) -> None:
    settings = at_version(tmp_path, "29990101_future")
    assert upgrade(settings) is False
    require_current(settings)


def test_an_older_schema_is_refused_where_it_is_not_upgraded(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="run `atelier db upgrade`"):
        require_current(at_version(tmp_path, "20000101_past"))


def test_a_database_of_another_history_is_refused(tmp_path: Path) -> None:
    settings = at_version(tmp_path, "20000101_other")
    with pytest.raises(SettingsInvalid, match="another version of Atelier"):
        upgrade(settings)


def test_there_is_one_head_and_the_program_knows_it() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA_HEAD]


def test_every_migration_says_expand_or_contract() -> None:
    for file in (MIGRATIONS / "versions").glob("2*.py"):
        first = file.read_text().splitlines()[0]
        assert "(expand)" in first or "(contract)" in first, file.name
