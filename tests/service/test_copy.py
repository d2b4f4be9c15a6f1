"""`atelier db copy`, row by row: all of a SQLite database arrives in PostgreSQL, or nothing does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from app.artifacts.copy import copy_objects
from app.artifacts.disk import DiskArtifacts
from app.artifacts.objects import name_of
from app.domain.run import RunStatus, Step
from app.errors import SettingsInvalid, Unavailable
from app.installation import create_key, publish_first_app
from app.settings import Settings, load_settings
from app.store.copy import copy_rows, require_copyable
from app.store.schema import metadata
from app.store.store import Store
from tests.databases import PostgresDatabases
from tests.service.house import House, new_house


@pytest.fixture
def old(tmp_path: Path) -> Iterator[House]:
    with new_house(tmp_path / "old", "") as house:
        yield house


@pytest.fixture
def target(tmp_path: Path, postgres: PostgresDatabases) -> Settings:
    return load_settings(data_dir=tmp_path / "new", database_url=postgres.new())


def rows_of(target: Settings) -> int:
    with psycopg.connect(target.database_url) as db:
        counts = [db.execute(f"SELECT count(*) FROM {table.name}").fetchone() for table in metadata.sorted_tables]
    return sum(count[0] for count in counts if count)


def no_bar(done: int, total: int) -> None: ...


def claimed(house: House) -> Step:
    held = house.claim()
    assert held is not None
    return held


def test_runs_arrive_with_their_logs_and_go_on(old: House, target: Settings) -> None:
    run_ids = {old.submit() for _ in range(3)}
    ended, lost = claimed(old), claimed(old)
    old.complete(ended)
    told: list[tuple[int, int]] = []
    counts = copy_rows(old.settings, target, lambda *rows: told.append(rows))
    assert (counts["runs"], counts["tasks"], counts["steps"], counts["events"]) == (3, 3, 3, 1)
    assert told[-1] == (10, 10)
    with new_house(target.data_dir, target.database_url) as new:
        assert all(new.run(run_id) == old.run(run_id) for run_id in run_ids)
        assert new.facts(ended.run_id) == old.facts(ended.run_id)
        waiting = {step.run_id: step for step in (claimed(new), claimed(new))}
        assert set(waiting) == run_ids - {ended.run_id}
        again = waiting[lost.run_id]
        assert sorted(step.attempt for step in waiting.values()) == [1, again.attempt] == [1, 2]
        assert new.complete(lost) is None, "the attempt of the old side wrote on the new one"
        new.complete(again)
        assert new.run(lost.run_id).status == RunStatus.SUCCEEDED


def test_a_step_of_nobody_waits_without_a_lease(old: House, target: Settings) -> None:
    old.submit()
    old.claim()
    copy_rows(old.settings, target, no_bar)
    with psycopg.connect(target.database_url) as db:
        found = db.execute("SELECT status, worker_id, lease_expires_at, attempt FROM steps").fetchone()
    assert found == ("ready", None, None, 1)


def test_apps_and_keys_arrive_in_place_of_the_new_databases_own_app(old: House, target: Settings) -> None:
    new = Store(target)
    new.commit_blocking(publish_first_app)
    old.store.commit_blocking(publish_first_app)
    old.store.commit_blocking(lambda tx: create_key(tx, "text-to-image", "kept"))
    counts = copy_rows(old.settings, target, no_bar)
    new.close()
    assert (counts["apps"], counts["workflows"], counts["keys"]) == (1, 1, 1)


def test_more_rows_than_a_page(old: House, target: Settings) -> None:
    old.submit_many("a", 1000)
    old.submit("b")
    assert copy_rows(old.settings, target, no_bar)["steps"] == 1001


def test_text_that_postgresql_cannot_hold_is_replaced(old: House, target: Settings) -> None:
    run_id = old.submit()
    old.sql("UPDATE runs SET user = :user", user="a\0b")
    copy_rows(old.settings, target, no_bar)
    with new_house(target.data_dir, target.database_url) as new:
        assert new.run(run_id).user == "a\ufffdb"


def test_a_row_that_does_not_fit_leaves_the_target_as_it_was(old: House, target: Settings) -> None:
    old.submit()
    old.sql("UPDATE steps SET worker_id = :long", long="w" * 100)
    with pytest.raises(Unavailable, match=r"^Nothing was copied: value too long[^\n]*\.$"):
        copy_rows(old.settings, target, no_bar)
    assert rows_of(target) == 0
    assert old.claim() is not None, "the source is still locked"


def newer(old: House, target: Settings) -> None:
    old.sql("UPDATE alembic_version SET version_num = :v", v="29990101_future")


def older(old: House, target: Settings) -> None:
    old.sql("UPDATE alembic_version SET version_num = :v", v="20000101_past")


def target_has_runs(old: House, target: Settings) -> None:
    with new_house(target.data_dir, target.database_url) as new:
        new.submit()


def target_has_a_key(old: House, target: Settings) -> None:
    store = Store(target)
    store.commit_blocking(publish_first_app)
    store.commit_blocking(lambda tx: create_key(tx, "text-to-image", ""))
    store.close()


def target_is_not_migrated(old: House, target: Settings) -> None:
    with psycopg.connect(target.database_url) as db:
        db.execute("UPDATE alembic_version SET version_num = '20000101_past'")


@pytest.mark.parametrize(
    ("in_the_way", "sentence"),
    [
        (newer, "are at 29990101_future, this version of Atelier copies"),
        (older, "are at 20000101_past, this version of Atelier copies"),
        (target_has_runs, r"not empty \(it has 1 runs, 1 steps, 1 tasks\)"),
        (target_has_a_key, r"not empty \(it has 1 apps, 1 keys, 1 workflows\)"),
        (target_is_not_migrated, "run `atelier db upgrade` first"),
    ],
)
def test_what_cannot_be_copied_is_refused(
    old: House, target: Settings, in_the_way: Callable[[House, Settings], None], sentence: str
) -> None:
    in_the_way(old, target)
    for refuses in (require_copyable, lambda *both: copy_rows(*both, no_bar)):
        with pytest.raises(SettingsInvalid, match=sentence):
            refuses(old.settings, target)


def test_sides_that_are_not_what_they_should_be_are_refused(old: House, target: Settings, tmp_path: Path) -> None:
    missing = load_settings(data_dir=tmp_path / "missing", database_url="")
    for source, wrong, sentence in (
        (target, target, "The source must be"),
        (old.settings, old.settings, "The target must be"),
        (missing, target, "There is no database at"),
    ):
        with pytest.raises(SettingsInvalid, match=sentence):
            require_copyable(source, wrong)
    assert not missing.data_dir.exists()


def test_no_table_counts_by_itself() -> None:
    """Numbers that a database gives out by itself would begin anew after a copy."""
    assert [table.name for table in metadata.sorted_tables if table.autoincrement_column is not None] == []


def test_pictures_are_copied_once_and_damaged_ones_are_named(tmp_path: Path) -> None:
    source, target = DiskArtifacts(tmp_path / "a", 86400), DiskArtifacts(tmp_path / "b", 86400)
    good, bad = source.put(b"good"), source.put(b"bad")
    (tmp_path / "a" / name_of(bad)).write_bytes(b"BAD")
    told: list[tuple[int, int]] = []
    for _ in range(2):
        assert copy_objects(source, target, lambda *done: told.append(done)) == [bad]
    assert told == [(0, 2), (1, 2), (2, 2)] * 2
    assert target.get(good) == b"good"
    assert not (tmp_path / "b" / name_of(bad)).exists()
