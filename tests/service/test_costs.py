"""What a run costs the database: how many transactions for writing, and which statements in each.

A number that goes up here makes every run dearer. One that goes down is to be written down, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from app import ids
from app.domain.artifact import Artifact
from app.domain.event import Tick
from app.domain.request import Caller, RunRequest, Webhook
from app.domain.run import RunStatus
from app.graph.graph import load_graph
from app.store import steps
from tests.servers import ROOT
from tests.service.house import DONE, House, new_house

ACCEPT_INLINE = ["INSERT tasks", "INSERT runs"]
ACCEPT = [*ACCEPT_INLINE, "INSERT steps"]
CLAIM = ["UPDATE steps"]
_LOCK = "SELECT runs"
_LOG = "SELECT runs"  # and events: a union
# The run, its facts, whatever webhooks are to be told, and whatever is open.
_END_RUN = ["UPDATE runs", "INSERT events", "INSERT deliveries", "UPDATE steps"]
COMPLETE = [_LOCK, "UPDATE steps", "INSERT artifacts", _LOG, *_END_RUN]
GIVE_BACK = [_LOCK, "UPDATE steps", _LOG, "UPDATE runs", "INSERT events"]
STOP = [_LOCK, _LOG, *_END_RUN]


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[House]:
    with new_house(tmp_path, database_url) as house:
        yield house


@pytest.fixture
def sqlite_house(tmp_path: Path) -> Iterator[House]:
    with new_house(tmp_path, "") as house:
        yield house


@contextmanager
def echo(like: House) -> Iterator[House]:
    """The same with a workflow that needs no worker."""
    house = House(like.settings, load_graph((ROOT / "workflows/echo.yml").read_text()))
    yield house
    house.store.close()


@contextmanager
def transactions(house: House) -> Iterator[list[list[str]]]:
    """What each transaction of the block did, as `VERB table` for each of its statements, when the block is over."""
    said: list[str] = []
    connection = house.store._committer._session._connection  # type: ignore[attr-defined]
    connection.set_trace_callback(said.append)
    done: list[list[str]] = []
    yield done
    connection.set_trace_callback(None)
    for statement in said:
        if statement.startswith("BEGIN"):
            done.append([])
        elif not statement.startswith(("COMMIT", "PRAGMA")):
            done[-1].append(_in_short(statement))


def _in_short(statement: str) -> str:
    """The verb and the first table; of a claim, which looks for its step first, the update."""
    for verb, pattern in (("INSERT", r"INSERT INTO (\w+)"), ("UPDATE", r"UPDATE (\w+)"), ("SELECT", r"FROM (\w+)")):
        if found := re.search(pattern, statement):
            return f"{verb} {found[1]}"
    return statement


def artifact(run_id: str, step_id: str) -> Artifact:
    return Artifact(ids.new_id(), run_id, step_id, "0" * 64, 1, "image/png", ".png", "a.png")


def test_a_run_that_needs_no_worker_is_one_transaction(house: House) -> None:
    with echo(house) as inline:
        run_id = inline.submit()
        assert inline.store.transactions == 1
        assert inline.run(run_id).status == RunStatus.SUCCEEDED


def test_a_run_with_a_workers_step_is_three_transactions(house: House) -> None:
    run_id = house.submit()
    held = house.claim()
    assert held is not None
    house.complete(held)
    assert house.store.transactions == 3
    assert house.run(run_id).status == RunStatus.SUCCEEDED


def test_an_inline_run_is_two_inserts(sqlite_house: House) -> None:
    with echo(sqlite_house) as inline, transactions(inline) as done:
        inline.submit()
    assert done == [ACCEPT_INLINE]


def test_whoever_wants_to_be_told_pays_for_it(sqlite_house: House) -> None:
    own = Webhook("https://example.com/", host="example.com")
    caller = Caller("key", "app")
    with echo(sqlite_house) as inline, transactions(inline) as done:
        inline.submit(posting=RunRequest(msgspec.structs.replace(caller, app_webhooks=True), {}, "user"))
        inline.submit(posting=RunRequest(caller, {}, "user", webhook=own))
    assert done == [
        [*ACCEPT_INLINE, "INSERT deliveries"],
        [*ACCEPT_INLINE, "INSERT run_webhooks", "INSERT deliveries"],
    ]


def test_a_run_with_a_picture_is_twelve_statements(sqlite_house: House) -> None:
    house = sqlite_house
    with transactions(house) as done:
        run_id = house.submit()
        held = house.claim()
        assert held is not None
        made = [artifact(run_id, held.id)]
        house.store.commit_blocking(lambda tx: house.advance.complete(tx, held, DONE, made))
    assert done == [ACCEPT, CLAIM, COMPLETE]
    assert sum(map(len, done)) == 12


def test_a_lost_attempt_is_five_statements_more_and_a_claim(sqlite_house: House) -> None:
    house = sqlite_house
    house.submit()
    with transactions(house) as done:
        held = house.claim()
        assert held is not None
        house.give_back(held)
        assert house.claim() is not None
    assert done == [CLAIM, GIVE_BACK, CLAIM]


def test_a_stop_is_seven_statements(sqlite_house: House) -> None:
    run_id = sqlite_house.submit()
    with transactions(sqlite_house) as done:
        sqlite_house.stop(run_id)
    assert done == [STOP]
    assert len(STOP) == 6


def test_progress_is_stored_by_the_renewal_itself(sqlite_house: House) -> None:
    house = sqlite_house
    run_id = house.submit()
    held = house.claim()
    assert held is not None
    tick = Tick(run_id, held.id, "paint", 3, 30, 1.0)
    with transactions(house) as done:
        house.store.commit_blocking(lambda tx: steps.renew_leases(tx, "w1", 60.0, tick))
    assert done == [["UPDATE steps"]]


def test_what_finds_nothing_to_do_is_one_statement(sqlite_house: House) -> None:
    house = sqlite_house
    run_id = house.submit()
    house.stop(run_id)
    with transactions(house) as done:
        assert house.claim() is None
        assert house.stop(run_id) is None
        house.store.commit_blocking(lambda tx: steps.renew_leases(tx, "w1", 60.0))
    assert done == [CLAIM, ["SELECT runs"], ["UPDATE steps"]]
