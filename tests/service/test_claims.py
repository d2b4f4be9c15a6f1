"""Steps on a real database: one holder at a time, and only the holder's outcome is written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app import ids
from app.domain.event import EventKind
from app.domain.run import Failed, Retry, Run, RunStatus, Step, Succeeded, Task
from app.graph.graph import Graph, load_graph
from app.runs.advance import Advance, Notice
from app.runs.movement import Settled
from app.settings import Settings, load_settings
from app.store import runs, steps
from app.store.migrate import upgrade
from app.store.store import Store
from tests.servers import ROOT

DONE = Succeeded({"text": "", "files": [], "json": []})
LOST = Retry("The worker was lost.", "worker_lost")


class House:
    """A store, what moves runs on, and one workflow with a step for a worker."""

    def __init__(self, settings: Settings, graph: Graph) -> None:
        self.settings, self.graph = settings, graph
        self.store = Store(settings)
        self.advance = Advance(lambda tx, workflow_id: graph, lambda call: Settled(dict(call.inputs), "c"), settings)

    def submit(self) -> str:
        run_id = ids.new_id()
        task = Task(ids.new_id(), run_id, "app", "key", "user", "dify", "blocking", 1.0)
        inputs = {"prompt": "p"}
        new = Run(run_id, task.id, "app", "w", "user", RunStatus.RUNNING, inputs, {}, None, 0, 0, 0, 1.0)
        movement = self.advance.begin(self.graph, new)
        self.store.commit_blocking(lambda tx: self.advance.insert(tx, task, movement))
        return run_id

    def claim(self, worker: str = "w1", lease_s: float = 60, resident: str | None = None) -> Step | None:
        return self.store.commit_blocking(lambda tx: steps.claim(tx, worker, "gpu", resident, lease_s))

    def complete(self, held: Step, outcome: Succeeded | Failed | Retry = DONE) -> Notice | None:
        return self.store.commit_blocking(lambda tx: self.advance.complete(tx, held, outcome))

    def give_back(self, held: Step) -> Notice | None:
        return self.store.commit_blocking(lambda tx: self.advance.give_back(tx, held, LOST))

    def stop(self, run_id: str) -> Notice | None:
        return self.store.commit_blocking(lambda tx: self.advance.end_run(tx, run_id, RunStatus.STOPPED, "stop"))

    def run(self, run_id: str) -> Run:
        run = self.store.read_blocking(lambda tx: runs.find_run(tx, run_id))
        assert run is not None
        return run

    def facts(self, run_id: str) -> list[EventKind]:
        events = self.store.read_blocking(lambda tx: runs.events_after(tx, run_id, 0))
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        return [event.kind for event in events]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    settings = load_settings(data_dir=tmp_path, retry_delay_s=0, max_attempts=3)
    upgrade(settings)
    house = House(settings, load_graph((ROOT / "workflows/text-to-image.yml").read_text()))
    yield house
    house.store.close()


def test_a_step_is_claimed_once_and_its_outcome_ends_the_run(house: House) -> None:
    run_id = house.submit()
    held = house.claim()
    assert held is not None
    assert (held.attempt, held.status, house.claim("w2")) == (1, "running", None)
    assert house.complete(held) == Notice(run_id)
    assert house.run(run_id).status == RunStatus.SUCCEEDED
    assert house.facts(run_id)[-1] == EventKind.RUN_FINISHED


def test_many_claimers_take_each_step_once(house: House) -> None:
    wanted = {house.submit() for _ in range(60)}
    others = [Store(house.settings) for _ in range(4)]

    def drain(number: int) -> list[str]:
        taken = []
        while step := others[number].commit_blocking(lambda tx: steps.claim(tx, f"w{number}", "gpu", None, 60)):
            taken.append(step.run_id)
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = [run_id for part in pool.map(drain, range(4)) for run_id in part]
    assert len(taken) == 60
    assert set(taken) == wanted
    for other in others:
        other.close()


def test_an_outcome_that_comes_twice_is_written_once(house: House) -> None:
    run_id = house.submit()
    held = house.claim()
    assert held is not None
    assert house.complete(held) is not None
    facts = house.facts(run_id)
    assert house.complete(held, Failed("late", "late")) is None
    assert (house.facts(run_id), house.run(run_id).status) == (facts, RunStatus.SUCCEEDED)


def test_a_late_worker_is_refused_and_the_next_attempt_counts(house: House) -> None:
    run_id = house.submit()
    late = house.claim("w1")
    assert late is not None
    assert house.give_back(late) == Notice(run_id, rings=frozenset({"gpu"}))
    current = house.claim("w2")
    assert current is not None
    assert current.attempt == 2
    assert house.complete(late) is None
    assert house.run(run_id).status == RunStatus.RUNNING
    assert house.complete(current) is not None
    assert house.facts(run_id).count(EventKind.RUN_FINISHED) == 1


def test_giving_back_twice_is_the_same_as_once(house: House) -> None:
    run_id = house.submit()
    held = house.claim()
    assert held is not None
    assert house.give_back(held) is not None
    assert house.give_back(held) is None
    assert house.facts(run_id).count(EventKind.STEP_RETRIED) == 1


def test_the_last_attempt_fails_the_run_with_its_reason(house: House) -> None:
    run_id = house.submit()
    for _ in range(3):
        held = house.claim()
        assert held is not None
        house.give_back(held)
    assert house.claim() is None
    assert (house.run(run_id).status, house.run(run_id).error) == (
        RunStatus.FAILED,
        "The worker was lost. (3 attempts)",
    )


def test_a_stop_wins_over_an_outcome_that_comes_later(house: House) -> None:
    run_id = house.submit()
    held = house.claim()
    assert held is not None
    assert house.stop(run_id) == Notice(run_id, halts=(held.id,))
    assert house.complete(held) is None
    assert house.stop(run_id) is None
    assert house.run(run_id).status == RunStatus.STOPPED
    assert house.facts(run_id).count(EventKind.RUN_FINISHED) == 1


def test_an_expired_lease_is_found_and_a_renewed_one_is_not(house: House) -> None:
    house.submit()
    house.submit()
    renewed, expired = house.claim("alive", lease_s=-1), house.claim("dead", lease_s=-1)
    assert renewed is not None
    assert expired is not None
    kept = house.store.commit_blocking(lambda tx: steps.renew_leases(tx, "alive", 60))
    assert kept == {renewed.id}
    assert [step.id for step in house.store.read_blocking(steps.expired_steps)] == [expired.id]


def test_a_step_that_needs_no_loading_goes_first_but_age_wins(house: House) -> None:
    older, newer = house.submit(), house.submit()
    with sqlite3.connect(house.settings.database_path) as db:
        db.execute("UPDATE steps SET checkpoint = 'resident' WHERE run_id = ?", (newer,))
    first = house.claim(resident="resident")
    assert first is not None
    assert first.run_id == newer
    house.give_back(first)
    with sqlite3.connect(house.settings.database_path) as db:
        db.execute("UPDATE steps SET ready_at = ready_at - 60 WHERE run_id = ?", (older,))
    second = house.claim(resident="resident")
    assert second is not None
    assert second.run_id == older


def test_a_ready_step_that_nobody_takes_is_rung_for_again(house: House) -> None:
    house.submit()
    assert house.store.read_blocking(lambda tx: steps.waiting_classes(tx, 60)) == []
    assert house.store.read_blocking(lambda tx: steps.waiting_classes(tx, -1)) == ["gpu"]
