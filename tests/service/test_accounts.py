"""Apps that two processes publish at the same moment."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from app.installation import publish_first_app
from app.settings import load_settings
from app.store import accounts
from app.store.accounts import Key
from app.store.engine import Tx
from app.store.store import Store
from tests.databases import PostgresDatabases
from tests.service.house import new_house


def test_of_two_that_publish_a_new_app_at_once_the_second_finds_it(tmp_path: Path, postgres: PostgresDatabases) -> None:
    settings = load_settings(data_dir=tmp_path, database_url=postgres.new())
    first, second = Store(settings), Store(settings)
    with ThreadPoolExecutor(1) as threads:

        def publish_while_the_other_does(tx: Tx) -> Future[None]:
            publish_first_app(tx)
            other = threads.submit(second.commit_blocking, publish_first_app)
            time.sleep(0.3)
            assert not other.done(), "it does not wait for the first one's end"
            return other

        first.commit_blocking(publish_while_the_other_does).result(5)
    assert [name for name, _, _ in first.read_blocking(accounts.list_apps)] == ["text-to-image"]
    first.close()
    second.close()


def test_a_step_has_the_priority_of_its_key(tmp_path: Path, database_url: str) -> None:
    with new_house(tmp_path, database_url) as house:
        key = Key("urgent", "app", "", "app-1234", 1.0, None, 5)
        house.store.commit_blocking(publish_first_app)
        app_id, _ = house.store.read_blocking(lambda tx: accounts.find_app(tx, "text-to-image")) or ("", "")
        house.store.commit_blocking(lambda tx: accounts.insert_key(tx, key, app_id, "token"))
        ordinary, urgent = house.submit(), house.submit(key_id="urgent")
        assert [house.claim().run_id for _ in range(2)] == [urgent, ordinary]  # type: ignore[union-attr]
