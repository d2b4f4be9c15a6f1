"""Publishing on both databases: versions, what is kept from one to the next, how a page looks, who has been seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app import ids
from app.runs.publishing import Edition, exported, publish, publish_with_key
from app.store import accounts, end_users
from app.store.accounts import token_hash
from app.store.store import Store
from tests.servers import ROOT
from tests.service.house import new_house

ECHO = (ROOT / "workflows" / "echo.yml").read_text()
DECLARED = ECHO.replace(
    "environment_variables: []",
    "environment_variables: [{name: token, value: '', value_type: secret}, {name: size, value: 3, value_type: number}]",
)


@pytest.fixture
def store(tmp_path: Path, database_url: str) -> Iterator[Store]:
    with new_house(tmp_path, database_url) as house:
        yield house.store


def published(store: Store, text: str, **environment: str) -> tuple[str, dict[str, str]]:
    """Publishes it as the app `a`; (its id, the values that it runs with)."""
    edition = Edition.of(text, environment)
    done = store.commit_blocking(lambda tx: publish(tx, "a", edition))
    row = store.read_blocking(lambda tx: accounts.find_workflow(tx, done.workflow_id))
    assert row is not None
    return done.workflow_id, dict(row.environment or {})


def test_a_version_never_changes_and_the_newest_runs(store: Store) -> None:
    first, _ = published(store, ECHO)
    second, _ = published(store, ECHO + "# more\n")
    again, _ = published(store, ECHO + "# more\n")
    assert again == second != first
    app = store.read_blocking(lambda tx: accounts.find_app(tx, "a"))
    assert app is not None
    assert app[1] == second
    versions = store.read_blocking(lambda tx: accounts.list_versions(tx, app[0]))
    assert [version[0] for version in versions] == [second, first]
    assert store.read_blocking(lambda tx: exported(tx, "a", first)) == ECHO


def test_values_stay_as_long_as_they_are_declared(store: Store) -> None:
    assert published(store, DECLARED, token="t", size="5")[1] == {"token": "t", "size": "5"}
    assert published(store, DECLARED + "#\n", size="6")[1] == {"token": "t", "size": "6"}
    without = DECLARED.replace("{name: token, value: '', value_type: secret}, ", "")
    assert published(store, without)[1] == {"size": "6"}
    assert published(store, ECHO)[1] == {}


def test_other_values_alone_are_another_version(store: Store) -> None:
    assert published(store, DECLARED, size="5")[0] != published(store, DECLARED, size="6")[0]


def test_a_new_app_and_its_key_come_together_even_when_it_is_done_twice(store: Store) -> None:
    edition = Edition.of(ECHO)
    for _ in range(2):
        done, key = store.commit_blocking(lambda tx: publish_with_key(tx, "new", edition))
        assert key == edition.key.token
    opened = store.read_blocking(lambda tx: accounts.find_key(tx, token_hash(edition.key.token)))
    assert opened is not None
    assert (opened.caller.app_id, opened.workflow_id) == (done.app_id, done.workflow_id)
    later = Edition.of(ECHO + "#\n")
    assert store.commit_blocking(lambda tx: publish_with_key(tx, "new", later))[1] is None


def test_a_site_is_kept_with_its_app(store: Store) -> None:
    published(store, ECHO)
    app = store.read_blocking(lambda tx: accounts.find_app(tx, "a"))
    assert app is not None
    for site in ({"title": "T", "show_workflow_steps": False}, {}):
        store.commit_blocking(lambda tx, site=site: accounts.set_site(tx, app[0], site))
        assert store.read_blocking(lambda tx: accounts.find_site(tx, app[0])) == site


def test_a_user_is_found_by_the_id_that_is_made_of_its_name(store: Store) -> None:
    seen = [("app", "Eva"), ("app", "胸有成竹"), ("other", "Eva")]
    for _ in range(2):
        store.commit_blocking(lambda tx: end_users.insert_users(tx, seen))
    user_id = ids.end_user_id("app", "Eva")
    found = store.read_blocking(lambda tx: end_users.find_user(tx, "app", user_id))
    assert found is not None
    assert (found.id, found.user) == (user_id, "Eva")
    assert found.created_at > 1_700_000_000
    assert store.read_blocking(lambda tx: end_users.find_user(tx, "other", user_id)) is None


def test_a_user_of_a_run_is_found_before_its_row_is_written(tmp_path: Path, database_url: str) -> None:
    with new_house(tmp_path, database_url) as house:
        house.submit()
        user_id = ids.end_user_id("app", "user")
        found = house.store.read_blocking(lambda tx: end_users.find_user(tx, "app", user_id))
        assert found is not None
        assert found.user == "user"
