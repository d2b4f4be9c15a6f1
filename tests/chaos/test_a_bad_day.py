"""A bad day: many clients, and everything that can happen to them, at random. Nothing is lost, doubled or stuck.

The seed is printed; ATELIER_CHAOS_SEED repeats a day, ATELIER_CHAOS_RUNS makes it longer (`make soak`).
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import psycopg
import pytest
import redis

from tests.chaos.harness import Arena, arena
from tests.servers import ROOT

RUNS = int(os.environ.get("ATELIER_CHAOS_RUNS", "300"))
SEED = int(os.environ.get("ATELIER_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
CLIENTS = 10
FAULT_EVERY_S = 1.5


@pytest.mark.slow
@pytest.mark.timeout(max(240, RUNS))
def test_a_bad_day(tmp_path: Path) -> None:
    print(f"seed {SEED}, {RUNS} runs")
    with arena(tmp_path) as house:
        keys = {"picture": house.key, "echo": house.app_key(ROOT / "workflows/echo.yml")}
        keys["two"] = house.app_key(ROOT / "tests/chaos/two_pictures.yml")
        over = threading.Event()
        havoc = threading.Thread(target=wreak, args=(house, random.Random(SEED), over))
        havoc.start()
        clients = [threading.Thread(target=live, args=(house, keys, SEED + i + 1)) for i in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        over.set()
        havoc.join()
        house.check(60)
        tell(house)


def live(house: Arena, keys: dict[str, str], seed: int) -> None:
    """One client's day: blocking, streaming, hanging up early, stopping."""
    chance = random.Random(seed)
    for _ in range(RUNS // CLIENTS):
        name = chance.choice(["picture", "picture", "echo", "two"])
        inputs = {"text": "hello"} if name == "echo" else {"prompt": f"p{seed}", "steps": chance.randint(1, 15)}
        mode = chance.choice(["blocking", "streaming"])
        leave_after_s = chance.choice([None, None, None, 0.1])
        asked = house.ask(inputs, mode, key=keys[name], leave_after_s=leave_after_s)
        if asked.run_id and chance.random() < 0.15:
            with suppress(httpx.TransportError):
                stop = f"{house.cluster.url}/v1/workflows/tasks/{asked.run_id}/stop"
                bearer = {"Authorization": f"Bearer {keys[name]}"}
                httpx.post(stop, json={"user": "chaos"}, headers=bearer, timeout=20)
        time.sleep(chance.random() * 0.1)


def wreak(house: Arena, chance: random.Random, over: threading.Event) -> None:
    """A fault every now and then; what is down meanwhile is spared."""
    while not over.wait(FAULT_EVERY_S * (0.5 + chance.random())):
        fault = chance.choice(FAULTS)
        print(f"fault: {fault.__name__}")
        with suppress(AssertionError, ProcessLookupError, psycopg.Error, redis.RedisError):
            fault(house, chance)


def kill_an_api_process(house: Arena, chance: random.Random) -> None:
    house.cluster.kill(chance.choice(["api-1", "api-2"]))


def kill_a_worker(house: Arena, chance: random.Random) -> None:
    house.cluster.kill(chance.choice(["worker-1", "worker-2"]))


def kill_an_engine(house: Arena, chance: random.Random) -> None:
    os.kill(house.child_of(chance.choice(["worker-1", "worker-2"])), signal.SIGKILL)


def freeze_something(house: Arena, chance: random.Random) -> None:
    with house.frozen(chance.choice(["api-1", "api-2", "worker-1", "worker-2", "redis"])):
        time.sleep(1 + 4 * chance.random())


def kill_redis(house: Arena, chance: random.Random) -> None:
    house.cluster.kill("redis")


def flush_redis(house: Arena, chance: random.Random) -> None:
    with house.redis() as client:
        client.flushall()


def kill_postgresql(house: Arena, chance: random.Random) -> None:
    house.cluster.kill("postgres")


def cut_connections(house: Arena, chance: random.Random) -> None:
    house.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")


def crash_at_a_point(house: Arena, chance: random.Random) -> None:
    house.crash_next(chance.choice(["before_commit", "after_commit"]))


def let_a_worker_leave(house: Arena, chance: random.Random) -> None:
    house.cluster.kill(chance.choice(["worker-1", "worker-2"]), signal.SIGTERM)


FAULTS: list[Callable[[Arena, random.Random], None]] = [
    kill_an_api_process,
    kill_a_worker,
    kill_a_worker,
    kill_an_engine,
    freeze_something,
    freeze_something,
    kill_redis,
    flush_redis,
    kill_postgresql,
    cut_connections,
    crash_at_a_point,
    let_a_worker_leave,
]


def tell(house: Arena) -> None:
    """The day in numbers."""
    ends = house.rows("SELECT status, count(*) FROM runs GROUP BY status ORDER BY status")
    ((attempts, again),) = house.rows("SELECT sum(attempt), count(*) FILTER (WHERE attempt > 1) FROM steps")
    broken = sum(asked.error is not None for asked in house.asked)
    print(
        f"{len(house.asked)} asked, {broken} connections broke; {dict(ends)}; {attempts} attempts, {again} steps again"
    )
