"""A worker paints several steps side by side; of two workers, the one that has a checkpoint paints with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.checkpoints.catalogue import SHIPPED_FOLDER
from tests.databases import PostgresDatabases
from tests.servers import ROOT, Atelier, running

Run = Future[dict[str, Any]]
PAINTERS = {"worker_module": "tests.chaos.painter", "painter_room": "3"}


class Callers:
    """Ask for pictures that are held until somebody releases them."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(16)

    def ask(self, server: Atelier, prompt: str, **more: Any) -> Run:
        return self.run(server, {"prompt": prompt, "steps": 1, **more})

    def run(self, server: Atelier, inputs: dict[str, Any], key: str | None = None) -> Run:
        return self._threads.submit(lambda: server.run(inputs, key).json()["data"])

    def hold(self, server: Atelier, *names: str, **more: Any) -> list[Run]:
        return [self.ask(server, f"hold {name}", **more) for name in names]

    @staticmethod
    def release(*servers: Atelier) -> None:
        for server in servers:
            for name in "abcdef":
                (server.data_dir / f"release-{name}").touch()


@pytest.fixture
def callers() -> Callers:
    return Callers()


def statuses(*runs: Run) -> set[str]:
    return {run.result(60)["status"] for run in runs}


def rows(server: Atelier, statement: str) -> list[tuple[Any, ...]]:
    url = server.env.get("DATABASE_URL")
    if url:
        with psycopg.connect(url) as database:
            return database.execute(statement).fetchall()  # type: ignore[arg-type]
    with contextlib.closing(sqlite3.connect(server.data_dir / "atelier.db")) as lite:
        return lite.execute(statement).fetchall()


def held(server: Atelier) -> dict[str, int]:
    """The attempts that a worker holds, by the prompt of their step."""
    found = rows(server, "SELECT inputs, attempt FROM steps WHERE status = 'running'")
    return {inputs.split('"prompt":"')[1].split('"')[0]: attempt for inputs, attempt in found}


def until_held(server: Atelier, **expected: int) -> None:
    wanted = {f"hold {name}" if len(name) == 1 else name: attempt for name, attempt in expected.items()}
    server.until(f"{wanted} are held", lambda: held(server) == wanted)


def test_a_worker_takes_no_more_than_its_engine_has_room_for_and_a_stop_makes_room(
    tmp_path: Path, callers: Callers
) -> None:
    with running(tmp_path, **PAINTERS) as server:
        server.until_ready()
        stopped, *others = callers.hold(server, "a", "b", "c")
        until_held(server, a=1, b=1, c=1)
        late = callers.hold(server, "d")
        server.until("it waits", lambda: len(rows(server, "SELECT 1 FROM steps WHERE status = 'ready'")) == 1)
        of_a = "SELECT task_id FROM runs JOIN steps ON run_id = runs.id WHERE steps.inputs LIKE '%hold a%'"
        [(task_id,)] = rows(server, of_a)
        server.http.post(f"/v1/workflows/tasks/{task_id}/stop", json={"user": "abc-123"})
        assert statuses(stopped) == {"stopped"}
        until_held(server, b=1, c=1, d=1)
        callers.release(server)
        assert statuses(*others, *late) == {"succeeded"}


def test_a_stalled_picture_is_dropped_and_a_hanging_one_costs_its_neighbours_no_try(
    tmp_path: Path, callers: Callers
) -> None:
    with running(tmp_path, **PAINTERS, step_stall_s="2", max_attempts="1") as server:
        server.until_ready()
        pid = server.worker_pid("tests.chaos.painter")
        neighbour, stalls = callers.ask(server, "live a"), callers.ask(server, "stall")
        assert statuses(stalls) == {"failed"}
        assert server.worker_pid("tests.chaos.painter") == pid
        hangs = callers.ask(server, "hang")
        assert statuses(hangs) == {"failed"}
        callers.release(server)
        assert statuses(neighbour) == {"succeeded"}, "it was given back, and not counted as a try"


def test_a_server_that_was_frozen_takes_no_step_for_stalled(tmp_path: Path, callers: Callers) -> None:
    with running(tmp_path, **PAINTERS, step_stall_s="1.5", max_attempts="1") as server:
        server.until_ready()
        runs = [callers.ask(server, f"live {name}") for name in "ab"]
        server.until("both are painted", lambda: len(held(server)) == 2)
        os.kill(server.process.pid, signal.SIGSTOP)
        time.sleep(2)
        os.kill(server.process.pid, signal.SIGCONT)
        assert statuses(callers.ask(server, "p")) == {"succeeded"}
        callers.release(server)
        assert statuses(*runs) == {"succeeded"}


def test_a_step_that_kills_its_worker_each_time_ends_by_itself_and_its_neighbours_are_painted(
    tmp_path: Path, callers: Callers
) -> None:
    with running(tmp_path, **{**PAINTERS, "painter_room": "9"}, gpu_lanes="9") as server:
        server.until_ready()
        neighbours = callers.hold(server, "a", "b", "c", "d", "e", "f")
        until_held(server, a=1, b=1, c=1, d=1, e=1, f=1)
        poison = callers.ask(server, "poison")
        server.until("they are lost, and painted beside fewer", lambda: set(held(server).values()) == {2})
        assert len(held(server)) <= 3
        callers.release(server)
        assert statuses(*neighbours) == {"succeeded"}
        assert poison.result(60)["error"] == "The worker was lost. (3 attempts)"
        assert statuses(callers.ask(server, "p")) == {"succeeded"}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresDatabases) -> Iterator[tuple[Atelier, Atelier]]:
    """Two servers with a worker each on one database, and a second checkpoint; the last test kills one."""
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    for folder in folders:
        shutil.copytree(SHIPPED_FOLDER / "atelier-shapes", folder / "checkpoints" / "other")
    common: dict[str, Any] = {"env_too": {"DATABASE_URL": postgres.new()}, **PAINTERS, "affinity_wait_s": "60"}
    with running(folders[0], **common) as one, running(folders[1], **common) as two:
        one.until_ready()
        two.until_ready()
        yield one, two


def who_has_the_other(server: Atelier) -> list[str]:
    """The workers that have the second checkpoint in memory, as all can know."""
    return [worker_id for (worker_id,) in rows(server, "SELECT worker_id FROM residents WHERE checkpoint = 'other'")]


def painters(server: Atelier) -> dict[str, set[str]]:
    """Checkpoint → the workers that have taken steps of it."""
    found: dict[str, set[str]] = {}
    for checkpoint, worker_id in rows(server, "SELECT checkpoint, worker_id FROM steps"):
        found.setdefault(checkpoint, set()).add(worker_id)
    return found


def test_an_unload_reaches_every_worker_and_waits_for_what_is_painted(
    pair: tuple[Atelier, Atelier], callers: Callers
) -> None:
    one, _ = pair
    everywhere = "SELECT worker_id FROM residents WHERE checkpoint = 'atelier-shapes'"
    one.until("both tell what they have", lambda: len(rows(one, everywhere)) == 2)
    picture = callers.hold(one, "x")
    until_held(one, x=1)
    keeper = one.app_key(ROOT / "workflows/keep-checkpoint.yml")
    unload = callers.run(one, {"keep_alive_s": 0, "model_name": "atelier-shapes"}, keeper)
    one.until("the idle one has let go", lambda: len(rows(one, everywhere)) == 1)
    for server in pair:
        (server.data_dir / "release-x").touch()
    assert statuses(*picture) == {"succeeded"}
    assert unload.result(60)["outputs"] == {"resident": False, "load_s": 0}
    assert rows(one, everywhere) == []


def test_each_step_goes_to_the_worker_that_has_its_checkpoint_while_that_lives(
    pair: tuple[Atelier, Atelier], callers: Callers
) -> None:
    one, two = pair
    first = callers.hold(one, "a", model_name="other")
    until_held(one, a=1)
    [holder] = one.until("others know what is in memory", lambda: who_has_the_other(one))
    runs = [callers.ask(server, "p", model_name="other") for server in (one, two, two, one)]
    assert statuses(*runs) == {"succeeded"}
    assert painters(one)["other"] == {holder}
    callers.release(one, two)
    assert statuses(*first) == {"succeeded"}
    killed, kept = (one, two) if holder_is(one, holder) else (two, one)
    killed.kill()
    kept.until("it is known to be gone", lambda: not who_has_the_other(kept))
    assert statuses(callers.ask(kept, "p", model_name="other")) == {"succeeded"}


def holder_is(server: Atelier, worker_id: str) -> bool:
    pid = server.worker_pid("tests.chaos.painter")
    return worker_id.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
