"""Steps on a real database: one holder at a time, and only the holder's outcome is written."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.domain.event import EventKind
from app.domain.run import Failed, RunStatus, Step
from app.runs.advance import Notice
from app.store import steps
from app.store.store import Store
from tests.service.house import House, new_house


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[House]:
    with new_house(tmp_path, database_url) as house:
        yield house


def test_a_step_is_claimed_once_and_its_outcome_ends_the_run(house: House) -> None:
    run_id = house.submit()
    held = house.claim()
    assert held is not None
    assert (held.attempt, held.status, house.claim("w2")) == (1, "running", None)
    assert house.complete(held) == Notice(run_id, posts=True)
    assert house.run(run_id).status == RunStatus.SUCCEEDED
    assert house.facts(run_id)[-1] == EventKind.RUN_FINISHED


def test_many_claimers_take_each_step_once(house: House) -> None:
    wanted = {house.submit() for _ in range(60)}
    others = [Store(house.settings) for _ in range(4)]

    def drain(number: int) -> list[str]:
        taken = []
        while step := others[number].commit_blocking(
            lambda tx: steps.claim(tx, steps.Claimer(f"w{number}", "gpu", 60))
        ):
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
    assert house.stop(run_id) == Notice(run_id, halts=(held.id,), posts=True)
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
    house.sql("UPDATE steps SET checkpoint = 'resident' WHERE run_id = :run", run=newer)
    first = house.claim(resident=("resident",))
    assert first is not None
    assert first.run_id == newer
    house.give_back(first)
    house.sql("UPDATE steps SET ready_at = ready_at - 60 WHERE run_id = :run", run=older)
    second = house.claim(resident=("resident",))
    assert second is not None
    assert second.run_id == older


def test_a_step_of_a_higher_priority_goes_first_whatever_its_age(house: House) -> None:
    house.submit()
    urgent = house.submit()
    house.sql("UPDATE steps SET priority = 1 WHERE run_id = :run", run=urgent)
    first = house.claim(resident=("c",))
    assert first is not None
    assert first.run_id == urgent


def test_a_ready_step_that_nobody_takes_is_rung_for_again(house: House) -> None:
    house.submit()
    assert house.store.read_blocking(lambda tx: steps.waiting_classes(tx, 60)) == []
    assert house.store.read_blocking(lambda tx: steps.waiting_classes(tx, -1)) == ["gpu"]


def test_a_lost_step_is_taken_beside_a_few_others_and_for_its_last_try_alone(house: House) -> None:
    run_id = house.submit()

    def taken(beside: int) -> Step | None:
        return house.claim(beside=beside, few=2, max_attempts=3)

    first = taken(beside=9)
    assert first is not None
    house.give_back(first)
    house.sql("UPDATE steps SET ready_at = 0")
    assert taken(beside=2) is None
    second = taken(beside=1)
    assert second is not None
    house.give_back(second)
    house.sql("UPDATE steps SET ready_at = 0")
    assert taken(beside=1) is None
    third = taken(beside=0)
    assert third is not None
    assert (third.attempt, third.run_id) == (3, run_id)


def test_no_other_step_goes_before_one_that_waits_for_more_room(house: House) -> None:
    lost_id = house.submit()
    lost = house.claim()
    assert lost is not None
    house.give_back(lost)
    house.submit()
    house.sql("UPDATE steps SET ready_at = 0 WHERE attempt = 1")
    assert house.claim("w2", beside=3, few=2, max_attempts=3) is None
    again = house.claim("w2", beside=0, few=2, max_attempts=3)
    assert again is not None
    assert again.run_id == lost_id
