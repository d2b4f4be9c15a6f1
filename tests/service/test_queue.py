"""The queue on a real database: whose turn it is, who may still join, and who is told how long it takes."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.domain.run import RunStatus
from app.errors import TooManyRequests
from app.events.wakeups import LocalWakeups
from app.runs.queue_view import Picture, QueueView
from app.store import queue, runs, steps
from app.store.store import Store
from tests.clusters import until
from tests.service.house import House, new_house


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[House]:
    with new_house(tmp_path, database_url) as house:
        yield house


def rows(house: House, statement: str, **values: Any) -> list[tuple[Any, ...]]:
    return house.store.read_blocking(lambda tx: tx.rows(text(statement), values))


def claimed(house: House, **more: Any) -> str | None:
    step = house.claim(**more)
    time.sleep(0.002)  # steps take longer than a millisecond, which is what SQLite's clock can tell apart
    return None if step is None else step.run_id


def test_one_run_beside_a_thousand_of_another_key_is_next(house: House) -> None:
    house.add_key("busy")
    house.add_key("quiet")
    many = house.submit_many("busy", 1000)
    assert claimed(house) == many[0]
    one = house.submit("quiet")
    assert claimed(house) == one
    assert claimed(house) == many[1]
    again = house.submit("quiet")
    assert [claimed(house), claimed(house)] == [again, many[2]]


def test_keys_take_turns_and_their_runs_keep_their_order(house: House) -> None:
    keys = ["a", "b", "c"]
    wanted: dict[str, list[str]] = {}
    for key in keys:
        house.add_key(key)
        wanted[key] = house.submit_many(key, 4)
    turns = [claimed(house) for _ in range(12)]
    assert turns == [wanted[key][number] for number in range(4) for key in keys]


def test_the_checkpoint_in_memory_counts_within_a_key_only(house: House) -> None:
    house.add_key("a")
    house.add_key("b")
    first, second = house.submit("a"), house.submit("a")
    other = house.submit("b")
    house.sql("UPDATE steps SET checkpoint = 'in memory' WHERE run_id = :run", run=second)
    assert claimed(house, resident=("in memory",)) == second
    assert claimed(house, resident=("in memory",)) == other
    assert claimed(house, resident=("in memory",)) == first


def test_a_priority_is_what_was_asked_but_never_above_the_keys(house: House) -> None:
    house.add_key("k", priority=5)
    runs_by_priority = {
        house.submit("k", priority=asked): wanted for asked, wanted in ((None, 5), (3, 3), (9, 5), (-2, -2))
    }
    found = dict(rows(house, "SELECT run_id, priority FROM steps"))
    assert found == runs_by_priority


def test_a_step_past_its_runs_deadline_is_never_taken(house: House) -> None:
    late, in_time = house.submit(deadline_s=30.0), house.submit(deadline_s=30.0)
    expire(house, late)
    assert claimed(house) == in_time
    assert claimed(house) is None
    assert house.store.read_blocking(runs.overdue_runs) == [(late, 30.0)]
    assert rows(house, "SELECT attempt, claimed_at FROM steps WHERE run_id = :run", run=late) == [(0, None)]


def expire(house: House, run_id: str) -> None:
    house.sql("UPDATE runs SET deadline_at = deadline_at - 60 WHERE id = :run", run=run_id)
    house.sql("UPDATE steps SET expires_at = expires_at - 60 WHERE run_id = :run", run=run_id)


def test_the_shorter_of_two_deadlines_counts(house: House) -> None:
    own, everybodys = house.submit(deadline_s=30.0), house.submit(deadline_s=1e8)
    left = dict(rows(house, "SELECT id, deadline_s FROM runs"))
    assert left == {own: 30.0, everybodys: None}
    assert rows(
        house, "SELECT count(*) FROM runs r JOIN steps s ON s.run_id = r.id WHERE s.expires_at = r.deadline_at"
    ) == [(2,)]


def test_no_more_runs_are_under_way_than_a_limit_allows(house: House) -> None:
    for limit in ("max_active", "app_max_active"):
        first = house.submit(limit, **{limit: 2})
        house.submit(limit, **{limit: 2})
        with pytest.raises(TooManyRequests) as refused:
            house.submit(limit, **{limit: 2})
        assert (refused.value.limit, refused.value.current) == (2, 2)
        assert refused.value.headers == {"retry-after": "10"}
        house.stop(first)
        house.submit(limit, **{limit: 2})
        house.sql("UPDATE runs SET app_id = 'another'")
    assert rows(house, "SELECT count(*) FROM tasks") == rows(house, "SELECT count(*) FROM runs") == [(6,)]


def test_a_limit_holds_when_many_ask_at_the_same_moment(house: House) -> None:
    house.add_key("k")
    others = [Store(house.settings) for _ in range(4)]

    def ask(number: int) -> bool:
        one = House(house.settings, house.graph, others[number % 4])
        return accepted(one, "k", max_active=2, app_max_active=3)

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(ask, range(50))) == 2
    assert rows(house, "SELECT count(*) FROM runs") == [(2,)]
    for other in others:
        other.close()


def test_a_queue_has_a_depth_for_each_key_and_one_in_all(tmp_path: Path, database_url: str) -> None:
    with new_house(tmp_path, database_url, queue_depth_per_key=3, queue_depth=6) as house:
        house.submit_many("a", 3)
        with pytest.raises(TooManyRequests, match="At most 3 steps of this key may wait for a worker, and there are 3"):
            house.submit("a")
        house.submit("b", max_queued=1)
        with pytest.raises(TooManyRequests, match="At most 1 steps of this key"):
            house.submit("b", max_queued=1)
        house.submit_many("c", 2)
        with pytest.raises(TooManyRequests, match="At most 6 steps may wait for a worker here, and there are 6"):
            house.submit("d")
        house.claim()
        until("there is room, and it is seen", lambda: accepted(house, "d"))


def accepted(house: House, key: str, **more: Any) -> bool:
    try:
        house.submit(key, **more)
    except TooManyRequests:
        return False
    return True


def test_a_refusal_reckons_when_there_will_be_room(house: House) -> None:
    for _ in range(3):
        run_id = house.submit("k", max_active=1)
        held = house.claim()
        assert held is not None
        house.sql("UPDATE steps SET claimed_at = claimed_at - 7.5 WHERE run_id = :run", run=run_id)
        house.complete(held)
    house.submit("k", max_active=1)
    with pytest.raises(TooManyRequests) as refused:
        house.submit("k", max_active=1)
    assert refused.value.retry_after_s == 8


def test_places_in_the_queue_are_the_order_of_the_claims(house: House) -> None:
    chance = random.Random(4)
    keys = ["a", "b", "c", "d"]
    for key in keys:
        house.add_key(key, priority=2)
    for _ in range(40):
        house.submit(chance.choice(keys), priority=chance.choice([0, 1, 2]))
    for _ in range(7):
        claimed(house)
    picture = house.store.read_blocking(lambda tx: Picture(queue.waiting_steps(tx), {}, 0.0))
    ready = [row[0] for row in rows(house, "SELECT run_id FROM steps WHERE status = 'ready'")]
    places = {run_id: picture.place_of(run_id) for run_id in ready}
    order = [claimed(house) for _ in ready]
    assert [places[run_id].queue_position for run_id in order if run_id] == list(range(1, len(ready) + 1))  # type: ignore[union-attr]


async def test_a_run_that_has_just_come_knows_its_place_too(house: House) -> None:
    house.add_key("a")
    house.add_key("b")
    last = house.submit_many("a", 5)[-1]
    view = QueueView(house.store, LocalWakeups())
    place = await view.place_of(last)
    assert place is not None
    assert (place.queue_position, place.estimated_start) == (5, None)
    house.claim()  # a has had a turn, b has not
    fresh = QueueView(house.store, LocalWakeups())
    assert (await fresh.place_of(last)).queue_position == 4  # type: ignore[union-attr]
    new = [house.submit("b") for _ in range(2)]
    assert [(await fresh.place_of(run_id)).queue_position for run_id in new] == [1, 3]  # type: ignore[union-attr]
    house.stop(new[0])
    assert await QueueView(house.store, LocalWakeups()).place_of(new[0]) is None


async def test_a_start_is_reckoned_from_what_steps_took_lately(house: House) -> None:
    done = house.submit("k")
    held = house.claim()
    assert held is not None
    house.sql("UPDATE steps SET claimed_at = claimed_at - 20 WHERE run_id = :run", run=done)
    house.complete(held)
    waiting = house.submit_many("k", 5)
    house.claim("w1")
    house.claim("w2")
    now_s = house.store.read_blocking(queue.clock_s)
    third = await QueueView(house.store, LocalWakeups()).place_of(waiting[4])
    assert third is not None
    assert third.queue_position == 3
    assert third.estimated_start is not None
    assert 29 <= third.estimated_start - now_s <= 40  # three steps of 20 s on two workers


def test_a_stop_and_a_claim_at_the_same_moment_leave_nothing_to_a_worker(house: House) -> None:
    """Whoever comes first: either no worker has it, or the stop names the step that is to be dropped."""
    run_ids = house.submit_many("k", 30)
    other = Store(house.settings)

    def claim_all() -> list[str]:
        held = []
        while step := other.commit_blocking(lambda tx: steps.claim(tx, steps.Claimer("w", "gpu", 60))):
            held.append(step.id)
        return held

    with ThreadPoolExecutor(1) as pool:
        claiming = pool.submit(claim_all)
        notices = [house.stop(run_id) for run_id in run_ids]
        held = claiming.result()
    halted = {step_id for notice in notices if notice for step_id in notice.halts}
    assert set(held) <= halted
    assert house.store.read_blocking(steps.held_steps) == []
    assert {house.run(run_id).status for run_id in run_ids} == {RunStatus.STOPPED}
    other.close()
