"""A bad day: many clients, and everything that can happen to them, at random. Nothing is lost, doubled or stuck.

Four API processes behind nginx, two workers, PostgreSQL, Redis and a bucket. Every client gives each of its requests an
Idempotency-Key, hangs up when it likes, and comes back until it has its answer (`tests/chaos/client.py`).
The seed is printed; ATELIER_CHAOS_SEED repeats a day, ATELIER_CHAOS_RUNS makes it longer (`make soak`).
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import redis

from tests.chaos.client import Client, Wish
from tests.chaos.harness import Arena, arena
from tests.flaky import Proxy, Trouble, proxy_before
from tests.s3 import MotoServer
from tests.servers import ROOT

RUNS = int(os.environ.get("ATELIER_CHAOS_RUNS", "204"))
SEED = int(os.environ.get("ATELIER_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
CLIENTS = 12
FAULT_EVERY_S = 1.5
NO_BUCKET_S = 20.0
MOST_AT_ONCE = 3  # runs of the key `two`
RUN_TIMEOUT_S = 1200
APIS = [f"api-{n}" for n in range(1, 5)]


@pytest.mark.slow
@pytest.mark.timeout(max(300, RUNS))
def test_a_bad_day(tmp_path: Path) -> None:
    print(f"seed {SEED}, {RUNS} runs")
    s3 = MotoServer()
    s3.start()
    try:
        with proxy_before(s3.port) as bucket:
            env = s3.env | {"S3_ENDPOINT_URL": bucket.url}
            with arena(tmp_path, "--api", "4", more=env, run_timeout_s=str(RUN_TIMEOUT_S)) as house:
                spend(house, bucket)
    finally:
        s3.stop()


def spend(house: Arena, bucket: Proxy) -> None:
    """The day, and what must hold in the evening."""
    keys = {"picture": house.key, "echo": house.app_key(ROOT / "workflows/echo.yml")}
    keys["two"] = house.app_key(ROOT / "tests/chaos/two_pictures.yml", "--max-active", str(MOST_AT_ONCE))
    over = threading.Event()
    havoc = threading.Thread(target=wreak, args=(Day(house, bucket, random.Random(SEED)), over))
    havoc.start()
    try:
        with ThreadPoolExecutor(CLIENTS) as crowd:
            lives = [crowd.submit(live, house.cluster.url, keys, SEED + i + 1) for i in range(CLIENTS)]
            wishes = [wish for each in lives for wish in each.result()]
    finally:
        over.set()
        havoc.join()
    house.check(60)
    check_wishes(house, wishes)
    check_limit(house)
    tell(house, wishes)


def live(url: str, keys: dict[str, str], seed: int) -> list[Wish]:
    """One client's day: in every mode, leaving early, coming back, stopping."""
    chance = random.Random(seed)
    clients = {name: Client(url, key, chance) for name, key in keys.items()}
    wishes = []
    for number in range(RUNS // CLIENTS):
        name = chance.choice(["picture", "picture", "echo", "two"])
        inputs = {"text": "hello"} if name == "echo" else {"prompt": f"p{seed}", "steps": chance.randint(1, 15)}
        mode = ("blocking", "streaming", "async")[number % 3]
        wishes.append(clients[name].wish(inputs, mode, stop=chance.random() < 0.15))
        time.sleep(chance.random() * 0.1)
    for client in clients.values():
        client.close()
    return wishes


def check_wishes(house: Arena, wishes: list[Wish]) -> None:
    """One run each; what its client was told is what the database says."""
    runs = {row[0]: row[1:] for row in house.rows("SELECT id, status, last_seq FROM runs")}
    assert len(runs) == len(wishes)
    made = dict(house.rows("SELECT name, run_id FROM idempotency_keys"))
    for wish in wishes:
        assert wish.run_ids == {made[wish.name]}, wish
        status, last_seq = runs[made[wish.name]]
        assert wish.end is not None
        assert wish.end["status"] == status, wish
        assert wish.statuses <= {200, 202, 429, 503}, wish
        if wish.stopped:
            assert status == "stopped", wish
        if wish.mode == "streaming":
            assert [number for number, _ in wish.events] == list(range(1, last_seq + 1)), wish
            assert [name for _, name in wish.events].count("workflow_finished") == 1, wish


def check_limit(house: Arena) -> None:
    """By the database's own clock, no moment saw more runs of the limited key than it may have."""
    began = f"SELECT deadline_at - {RUN_TIMEOUT_S}, 1 FROM runs JOIN keys ON keys.id = key_id WHERE max_active > 0"
    ended = "SELECT runs.updated_at, -1 FROM runs JOIN keys ON keys.id = key_id WHERE max_active > 0"
    at_once = 0
    for _, change in sorted(house.rows(f"{began} UNION ALL {ended}")):
        at_once += change
        assert at_once <= MOST_AT_ONCE


@dataclass
class Day:
    """What there is to be broken."""

    house: Arena
    bucket: Proxy
    chance: random.Random


def wreak(day: Day, over: threading.Event) -> None:
    """A fault every now and then, and a bucket that is away for a while; what is down meanwhile is spared."""
    house, chance = day.house, day.chance
    away = threading.Thread(target=lose_the_bucket, args=(day.bucket, over))
    away.start()
    while not over.wait(FAULT_EVERY_S * (0.5 + chance.random())):
        fault = chance.choice(FAULTS)
        print(f"fault: {fault.__name__}")
        with suppress(AssertionError, ProcessLookupError, psycopg.Error, redis.RedisError):
            fault(house, chance)
    away.join()


def lose_the_bucket(bucket: Proxy, over: threading.Event) -> None:
    over.wait(5.0)
    bucket.always.update(GET=Trouble.ERROR, PUT=Trouble.ERROR, HEAD=Trouble.ERROR)
    over.wait(NO_BUCKET_S)
    bucket.always.clear()


def kill_an_api_process(house: Arena, chance: random.Random) -> None:
    house.cluster.kill(chance.choice(APIS))


def kill_a_worker(house: Arena, chance: random.Random) -> None:
    house.cluster.kill(chance.choice(["worker-1", "worker-2"]))


def kill_an_engine(house: Arena, chance: random.Random) -> None:
    os.kill(house.child_of(chance.choice(["worker-1", "worker-2"])), signal.SIGKILL)


def freeze_something(house: Arena, chance: random.Random) -> None:
    with house.frozen(chance.choice([*APIS, "worker-1", "worker-2", "redis"])):
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


def tell(house: Arena, wishes: list[Wish]) -> None:
    """The day in numbers."""
    ends = house.rows("SELECT status, count(*) FROM runs GROUP BY status ORDER BY status")
    ((attempts, again),) = house.rows("SELECT sum(attempt), count(*) FILTER (WHERE attempt > 1) FROM steps")
    breaks, refused = sum(wish.breaks for wish in wishes), sum(429 in wish.statuses for wish in wishes)
    print(
        f"{len(wishes)} wishes, {breaks} connections broke, {refused} were put off by a limit; {dict(ends)}; "
        f"{attempts} attempts, {again} steps again"
    )
