"""The lines between the processes and their servers: cut, slow, silent. And what keeps things being full or broken."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.cluster.servers import PostgreSQL, Redis
from app.settings import load_settings
from app.store.migrate import upgrade
from tests.chaos.harness import LONG, QUICK, Arena, arena
from tests.chaos.line import Line
from tests.clusters import until
from tests.s3 import S3Server

pytestmark = pytest.mark.slow


@dataclass
class Lines:
    arena: Arena
    database: Line
    redis: Line


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lines]:
    """A cluster that reaches PostgreSQL and Redis over lines that can be disturbed."""
    folder = tmp_path_factory.mktemp("lines")
    postgres, redis = PostgreSQL(folder / "pg"), Redis(folder / "redis")
    postgres.start()
    redis.start()
    upgrade(load_settings(data_dir=folder, database_url=postgres.url))
    database, hints = Line(postgres.port), Line(redis.port)
    more = {
        "DATABASE_URL": postgres.url.replace(f":{postgres.port}/", f":{database.port}/"),
        "REDIS_URL": redis.url.replace(f":{redis.port}/", f":{hints.port}/"),
        "DIRECT_URL": postgres.url,
    }
    with arena(folder / "cluster", more=more) as house:
        yield Lines(house, database, hints)
    for line in (database, hints):
        line.close()
    redis.stop()
    postgres.stop()


@pytest.fixture(autouse=True)
def whole(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "lines" in request.fixturenames:
        house: Arena = request.getfixturevalue("lines").arena
        house.check()
        house.asked.clear()


def test_the_line_to_the_database_is_cut_again_and_again(lines: Lines) -> None:
    with lines.arena.asking(LONG) as asked:
        for _ in range(5):
            lines.database.cut()
            time.sleep(0.2)
    assert asked.run_id is not None


def test_the_line_to_the_database_is_silent_for_longer_than_a_lease(lines: Lines) -> None:
    with lines.arena.asking(LONG) as asked, lines.database.silent():
        time.sleep(5)
    assert asked.run_id is not None


def test_the_line_to_the_database_is_slow(lines: Lines) -> None:
    with lines.database.slow(0.08):
        asked = [lines.arena.ask(QUICK) for _ in range(3)]
    assert all(each.answer is not None for each in asked)


def test_the_line_to_redis_is_silent_and_nobody_waits(lines: Lines) -> None:
    with lines.redis.silent():
        assert lines.arena.ask(QUICK).answer is not None


def test_both_lines_are_cut_while_many_ask(lines: Lines) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(lines.arena.asking(QUICK, "blocking"))
        lines.database.cut()
        lines.redis.cut()


# Where the bytes are kept.


def test_a_full_disk_delays_a_picture_and_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "full"
    small = folder / "data" / "artifacts"
    small.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may make a disk that is full")
    try:
        filler = small / "filler"
        with contextlib.suppress(OSError):
            filler.write_bytes(b"\0" * 70_000)
        with arena(folder, retry_delay_s="0.5") as house:
            with house.asking(QUICK) as asked:
                until("it was tried twice", lambda: tried(house, asked.run_id) >= 2)
                filler.unlink()
            assert asked.events[-1]["data"]["status"] == "succeeded"
            house.check()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_bucket_that_is_away_delays_a_picture_and_loses_nothing(tmp_path: Path) -> None:
    bucket = S3Server(tmp_path / "bucket")
    bucket.start()
    try:
        with arena(tmp_path / "cluster", more=bucket.env, retry_delay_s="0.5") as house:
            assert house.ask(QUICK).answer is not None
            with house.asking(LONG) as asked:
                bucket.kill()
                until("it was tried twice", lambda: tried(house, asked.run_id) >= 2)
                bucket.restart()
            assert asked.events[-1]["data"]["status"] == "succeeded"
            house.check()
    finally:
        bucket.stop()


def tried(house: Arena, run_id: str | None) -> int:
    rows = house.rows("SELECT attempt FROM steps WHERE run_id = %s", run_id)
    return int(rows[0][0]) if rows else 0
