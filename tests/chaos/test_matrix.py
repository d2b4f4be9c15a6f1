"""The failure matrix: the real processes of a cluster, broken one by one. After each, nothing is lost or doubled."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.chaos.harness import LEASE_S, LONG, QUICK, Arena, arena
from tests.clusters import until
from tests.servers import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with arena(tmp_path_factory.mktemp("matrix")) as ready:
        yield ready


@pytest.fixture(autouse=True)
def whole(house: Arena) -> Iterator[None]:
    """Each test finds all of the house standing, and leaves every run ended as it should."""
    house.until_workers_are_up()
    house.asked.clear()
    yield
    house.check()


def attempts(house: Arena, run_id: str | None) -> int:
    return int(house.rows("SELECT max(attempt) FROM steps WHERE run_id = %s", run_id)[0][0])


def status(house: Arena, run_id: str | None) -> str:
    return str(house.rows("SELECT status FROM runs WHERE id = %s", run_id)[0][0])


# API processes.


def test_an_api_process_dies_and_its_runs_do_not(house: Arena) -> None:
    with house.asking(LONG, api="api-1") as asked:
        house.cluster.kill("api-1")
    assert asked.error is not None
    assert asked.run_id is not None
    until("the run has ended", lambda: status(house, asked.run_id) == "succeeded")
    assert attempts(house, asked.run_id) == 1, "the worker had nothing to do with it"


def test_a_frozen_api_process_holds_nobody_up(house: Arena) -> None:
    with house.frozen("api-1"):
        assert house.ask(QUICK, api="api-2").answer is not None
        time.sleep(LEASE_S)


def test_a_blocking_client_of_a_dead_process_finds_its_run_ended(house: Arena) -> None:
    with house.asking(LONG, "blocking", api="api-2"):
        house.cluster.kill("api-2")


# Workers.


def test_an_idle_worker_dies(house: Arena) -> None:
    house.cluster.kill("worker-1")
    assert house.ask(QUICK).answer is not None


def test_a_worker_dies_in_the_middle_and_another_begins_within_a_second(house: Arena) -> None:
    with house.asking(LONG) as asked:
        house.cluster.kill(house.painting_worker())
        killed = time.monotonic()
        until("another has begun", lambda: attempts(house, asked.run_id) == 2)
        took = time.monotonic() - killed
    print(f"the next attempt began {took:.2f} s after the kill")
    assert house.given_back(asked.run_id) == ["worker_dead"], "only the lease noticed"
    assert asked.events[-1]["event"] == "workflow_finished"


def test_the_engine_dies_and_its_parent_gives_the_step_back(house: Arena) -> None:
    with house.asking(LONG) as asked:
        os.kill(house.child_of(house.painting_worker()), signal.SIGSEGV)
    assert attempts(house, asked.run_id) == 2


def test_a_frozen_worker_loses_its_step_and_is_refused_when_it_wakes(house: Arena) -> None:
    with house.asking({**LONG, "steps": 100}) as asked:
        name = house.painting_worker()
        child = house.child_of(name)
        os.kill(child, signal.SIGSTOP)
        with house.frozen(name):
            until("another has begun", lambda: attempts(house, asked.run_id) == 2)
        os.kill(child, signal.SIGCONT)
    assert asked.events[-1]["data"]["status"] == "succeeded"


def test_a_late_outcome_is_refused_while_the_run_goes_on(house: Arena) -> None:
    key = house.app_key(ROOT / "tests/chaos/two_pictures.yml")
    with house.asking({"prompt": "two", "steps": 100}, key=key) as asked:
        name = house.painting_worker()
        child = house.child_of(name)
        time.sleep(1.5)  # of two seconds: it will soon be done when it wakes
        os.kill(child, signal.SIGSTOP)
        with house.frozen(name):
            until("the second picture is begun", lambda: len(house.nodes(asked.run_id)) == 2)
            os.kill(child, signal.SIGCONT)  # alone: its parent would tell it that it has lost
            time.sleep(1)
    assert [event["event"] for event in asked.events].count("workflow_finished") == 1


def test_an_idle_worker_hears_at_once(house: Arena) -> None:
    house.ask(QUICK)
    times = []
    for _ in range(9):
        began = time.monotonic()
        house.ask({**QUICK, "steps": 1})
        times.append(time.monotonic() - began)
    assert min(times) < 0.5, f"the doorbell came too early, or not at all: {times}"


def test_a_worker_whose_clock_is_an_hour_ahead_changes_nothing(house: Arena) -> None:
    others = [house.frozen(name) for name in ("worker-1", "worker-2")]
    with contextlib.ExitStack() as stack:
        for other in others:
            stack.enter_context(other)
        with house.worker_of_another_time("+1h"):
            asked = house.ask(LONG)
    assert asked.answer is not None
    assert asked.answer["data"]["status"] == "succeeded"
    assert attempts(house, asked.run_id) == 1


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
def test_a_worker_dies_at_the_worst_moment(house: Arena, point: str) -> None:
    house.crash_next(point)
    asked = house.ask(QUICK)
    assert asked.answer is not None
    assert asked.answer["data"]["status"] == "succeeded"
    assert attempts(house, asked.run_id) == (2 if point == "before_commit" else 1)


def test_a_worker_that_is_asked_to_leave_finishes_its_step(house: Arena) -> None:
    with house.asking(LONG) as asked:
        house.cluster.kill(house.painting_worker(), signal.SIGTERM)
    assert attempts(house, asked.run_id) == 1


# Redis.


def test_redis_dies(house: Arena) -> None:
    with house.asking(LONG) as asked:
        house.cluster.kill("redis")
    assert asked.events[-1]["event"] == "workflow_finished"
    assert house.ask(QUICK).answer is not None


def test_redis_forgets_everything(house: Arena) -> None:
    with house.asking(LONG), house.redis() as client:
        client.flushall()
    assert house.ask(QUICK).answer is not None


def test_redis_hangs_and_requests_do_not(house: Arena) -> None:
    with house.frozen("redis"):
        assert house.ask(QUICK).answer is not None
        assert house.ask({**QUICK, "steps": 1}, "streaming").events[-1]["event"] == "workflow_finished"


def test_doorbells_that_come_twice_or_not_at_all_change_nothing(house: Arena) -> None:
    with house.redis() as client:
        for _ in range(10):
            house.ask({**QUICK, "steps": 1})
            message = client.lindex("gpu", 0)
            client.delete("gpu")
            if message is not None:
                client.lpush("gpu", *[message] * 50)
    assert len(house.asked) == 10


# PostgreSQL.


def test_postgresql_is_killed_and_comes_back(house: Arena) -> None:
    with house.asking(LONG) as asked:
        old = house.cluster.kill("postgres")
        house.cluster.until_replaced("postgres", old)
    assert asked.run_id is not None
    house.check()


def test_a_request_waits_for_a_database_that_restarts(house: Arena) -> None:
    old = house.cluster.kill("postgres")
    asked = house.ask(QUICK)
    house.cluster.until_replaced("postgres", old)
    assert asked.status in (200, 503)


def test_every_connection_to_the_database_is_cut(house: Arena) -> None:
    with house.asking(LONG) as asked:
        for _ in range(5):
            house.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            time.sleep(0.1)
    assert asked.run_id is not None


# Stops.


def test_a_stop_at_the_other_process_reaches_the_engine(house: Arena) -> None:
    with house.asking({**LONG, "steps": 150}, api="api-1") as asked:
        until("its task is known", lambda: asked.events)
        task_id = asked.events[0]["task_id"]
        (step_id,) = house.running_steps()
        with house.cluster.http() as http:
            answer = http.post(f"/v1/workflows/tasks/{task_id}/stop", json={"user": "chaos"})
        assert answer.json()["result"] == "success"
        until("the run is stopped", lambda: status(house, asked.run_id) == "stopped")
        until("the engine has let go of it", lambda: "outcome=stopped" in house.log_of(step_id))
    assert step_id not in house.running_steps()
    assert house.ask(QUICK).answer is not None  # the engine is free again


def test_a_stop_without_redis_comes_with_the_lease(house: Arena) -> None:
    with house.frozen("redis"), house.asking({**LONG, "steps": 150}, api="api-1") as asked:
        until("its task is known", lambda: asked.events)
        with house.cluster.http() as http:
            http.post(f"/v1/workflows/tasks/{asked.events[0]['task_id']}/stop", json={"user": "chaos"})
    assert status(house, asked.run_id) == "stopped"
