"""Group commit on a real database: what is told is durable, and one bad unit fails alone."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import bindparam, insert, select

from app.errors import InvalidParam, Unavailable
from app.settings import load_settings
from app.store.engine import Tx
from app.store.migrate import upgrade
from app.store.schema import apps
from app.store.store import Store


@pytest.fixture(params=["process", "power", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "postgresql":
        settings = load_settings(data_dir=tmp_path, database_url=request.getfixturevalue("postgres").new())
    else:
        settings = load_settings(data_dir=tmp_path, durability=request.param)
    upgrade(settings)
    store = Store(settings)
    yield store
    store.close()


_insert_app = insert(apps).values({name: bindparam(name) for name in ("id", "name", "workflow_id", "created_at")})


def add(name: str) -> Callable[[Tx], str]:
    def unit(tx: Tx) -> str:
        tx.run(_insert_app, {"id": name, "name": name, "workflow_id": "w", "created_at": 1.0})
        return name

    return unit


def names(tx: Tx) -> set[str]:
    return {row[0] for row in tx.rows(select(apps.c.name))}


def refuse(tx: Tx) -> None:
    add("half")(tx)
    raise InvalidParam("no")


async def test_a_few_rows_are_found_without_a_thread_where_nothing_waits(store: Store) -> None:
    await store.commit(add("a"))
    assert await store.find(names) == {"a"}
    is_here = await store.find(lambda tx: threading.get_ident()) == threading.get_ident()
    assert is_here == store._settings.is_embedded


async def test_what_is_told_can_be_read_by_another_connection(store: Store) -> None:
    assert await store.commit(add("a")) == "a"
    assert await store.read(names) == {"a"}


async def test_many_units_at_once_are_all_there(store: Store) -> None:
    wanted = {f"app {i}" for i in range(600)}
    told = await asyncio.gather(*(store.commit(add(name)) for name in wanted))
    assert set(told) == wanted == await store.read(names)


async def test_a_bad_unit_fails_alone_and_leaves_nothing(store: Store) -> None:
    units = (add("a"), refuse, add("a"), add("b"))
    waiting = [store.commit(unit) for unit in units]
    good, bad, doubled, other = await asyncio.gather(*waiting, return_exceptions=True)
    assert (good, other) == ("a", "b")
    assert isinstance(bad, InvalidParam)
    assert isinstance(doubled, (sqlite3.IntegrityError, psycopg.IntegrityError))
    assert await store.read(names) == {"a", "b"}


async def test_a_request_that_is_gone_changes_nothing_for_the_others(store: Store) -> None:
    leaving = asyncio.create_task(store.commit(add("a")))
    staying = asyncio.create_task(store.commit(add("b")))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == "b"
    assert "b" in await store.read(names)


@pytest.mark.parametrize("store", ["process", "power"], indirect=True)
async def test_another_writer_delays_a_commit_and_not_the_loop(store: Store, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "atelier.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(store.commit(add("late")))
    for _ in range(30):
        await asyncio.sleep(0.01)
        assert not waiting.done()
    other.execute("COMMIT")
    assert await waiting == "late"
    other.close()


def test_a_thread_commits_beside_the_loop(store: Store) -> None:
    assert store.commit_blocking(add("threaded")) == "threaded"
    with pytest.raises(InvalidParam):
        store.commit_blocking(refuse)
    assert store.read_blocking(names) == {"threaded"}


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    upgrade(settings)
    closed = Store(settings)
    closed.close()
    with pytest.raises(Unavailable):
        closed.commit_blocking(names)


def test_a_file_that_is_no_database_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "atelier.db").write_text("this is a letter, and a long one too, not a database" * 20)
    with pytest.raises(Unavailable, match="database"):
        upgrade(load_settings(data_dir=tmp_path))
