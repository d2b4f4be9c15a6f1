"""Limits, turns, places and deadlines, as callers meet them."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.databases import PostgresDatabases
from tests.servers import Atelier, running

PAINTER = "tests.chaos.painter"
EVERYBODY = httpx.Limits(max_connections=None)
PICTURE = {"prompt": "a red circle", "steps": 1}


@pytest.fixture(scope="module")
def painting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    """A server whose worker paints in steps of 0.02 s."""
    with running(tmp_path_factory.mktemp("painting"), worker_module=PAINTER) as server:
        server.until_ready()
        yield server


def body(**more: Any) -> dict[str, Any]:
    return {"inputs": PICTURE, "response_mode": "streaming", "user": "abc-123", **more}


def rows(server: Atelier, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """What the SQLite database of a server says."""
    with sqlite3.connect(f"file:{server.data_dir / 'atelier.db'}?mode=ro", uri=True) as db:
        return db.execute(statement, values).fetchall()


def queued(server: Atelier, key: str | None = None, headers: dict[str, str] | None = None, **more: Any) -> str:
    """Submits a run, hangs up as soon as it is accepted, and gives its id."""
    asked = server.bearer(key or server.key) | (headers or {})
    with server.http.stream("POST", "/v1/workflows/run", json=body(**more), headers=asked) as answer:
        assert answer.status_code == 200, answer.read()
        return answer.headers["x-workflow-run-id"]


async def ask_many(urls: list[str], key: str, count: int, *, then_stop: bool = False) -> list[httpx.Response]:
    """So many submissions at the same moment; whoever is accepted hangs up, and stops its run if that is wanted."""
    async with httpx.AsyncClient(timeout=60, headers=Atelier.bearer(key), limits=EVERYBODY) as http:

        async def ask(url: str) -> httpx.Response:
            async with http.stream("POST", f"{url}/v1/workflows/run", json=body()) as answer:
                if answer.status_code != 200:
                    await answer.aread()
            if then_stop and answer.status_code == 200:
                task_id = answer.headers["x-task-id"]
                stopped = await http.post(f"{url}/v1/workflows/tasks/{task_id}/stop", json={"user": "abc-123"})
                assert stopped.status_code == 200
            return answer

        return await asyncio.gather(*(ask(urls[number % len(urls)]) for number in range(count)))


async def test_five_hundred_at_once_are_accepted_or_told_when_to_come_again(tmp_path: Path) -> None:
    with running(tmp_path, worker="none", queue_depth_per_key="300") as server:
        answers = await ask_many([server.url], server.key, 500)
        refused = [answer for answer in answers if answer.status_code != 200]
        assert {answer.status_code for answer in refused} == {429}
        assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in refused)
        assert len(refused) == 200
        assert rows(server, "SELECT count(*), count(DISTINCT run_id) FROM steps") == [(300, 300)]
        assert rows(server, "SELECT count(*) FROM runs") == rows(server, "SELECT count(*) FROM tasks") == [(300,)]


async def test_a_limit_of_two_holds_over_two_processes(tmp_path: Path, postgres: PostgresDatabases) -> None:
    url = postgres.new()
    where = {"worker": "none", "env_too": {"DATABASE_URL": url}}
    with running(tmp_path / "a", **where) as one, running(tmp_path / "b", **where) as two:  # type: ignore[arg-type]
        one.cli("workflows", "limit", "text-to-image", "2")
        key = one.cli("keys", "create")
        answers = await ask_many([one.url, two.url], key, 50, then_stop=True)
        assert {answer.status_code for answer in answers} == {200, 429}
        assert (await ask_many([one.url, two.url], key, 4))[0].status_code in (200, 429)
    with psycopg.connect(url) as db:
        # By the database's clock, inside the transactions that accepted and ended them.
        moments = db.execute(
            "SELECT deadline_at - 1200, 1 FROM runs UNION ALL SELECT updated_at, -1 FROM runs WHERE status = 'stopped'"
        ).fetchall()
    active = [sum(change for moment, change in moments if moment <= at) for at, _ in moments]
    assert max(active) == 2


def test_a_refusal_says_the_limit_and_leaves_nothing_behind(web: Atelier, workflows: Path) -> None:
    web.cli("workflows", "publish", str(workflows / "text-to-image.yml"), "--app", "limited")
    web.cli("workflows", "limit", "limited", "1")
    key = web.cli("keys", "create", "--app", "limited")
    run_id = queued(web, key)
    asked = {**web.bearer(key), "Idempotency-Key": '"one-too-many"'}
    refused = web.http.post("/v1/workflows/run", json=body(response_mode="async"), headers=asked)
    ((app_id,),) = rows(web, "SELECT id FROM apps WHERE name = 'limited'")
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "10"
    said = refused.json()
    assert said.pop("request_id") == refused.headers["x-request-id"]
    assert said == {
        "code": "too_many_requests",
        "message": "Too many requests. Please try again later. The current maximum concurrent requests allowed for "
        f"{app_id} is 1. There are 1.",
        "status": 429,
        "retryable": True,
        "limit": 1,
        "current": 1,
    }
    ((task_id,),) = rows(web, "SELECT id FROM tasks WHERE run_id = ?", run_id)
    assert rows(web, "SELECT count(*) FROM runs WHERE app_id = ?", app_id) == [(1,)]
    web.http.post(f"/v1/workflows/tasks/{task_id}/stop", json={"user": "u"}, headers=web.bearer(key))
    again = web.http.post("/v1/workflows/run", json=body(response_mode="async"), headers=asked)
    assert (again.status_code, "idempotency-replayed" in again.headers) == (202, False)


def test_an_asynchronous_answer_says_where_the_run_stands(web: Atelier) -> None:
    key = web.cli("keys", "create")
    first, second = (web.run(PICTURE, key, response_mode="async").json() for _ in range(2))
    assert second["queue_position"] > first["queue_position"] >= 1
    assert second["estimated_start"] is None  # nothing has ever ended here that could tell
    shown = web.http.get(f"/v1/workflows/run/{second['id']}?include=progress").json()["progress"]
    assert shown["queue_position"] == second["queue_position"]
    stop(web, second["id"])
    assert web.http.get(f"/v1/workflows/run/{second['id']}?include=progress").json()["progress"] is None


def test_what_needs_no_worker_is_never_one_too_many(web: Atelier, workflows: Path) -> None:
    web.cli("workflows", "publish", str(workflows / "echo.yml"), "--app", "limited-echo")
    web.cli("workflows", "limit", "limited-echo", "1")
    key = web.cli("keys", "create", "--app", "limited-echo")
    assert [web.run({"text": "x"}, key).status_code for _ in range(3)] == [200, 200, 200]


def test_a_priority_is_bounded_by_the_keys(web: Atelier) -> None:
    key = web.cli("keys", "create", "--priority", "3")
    found = {
        asked: rows(web, "SELECT priority FROM steps WHERE run_id = ?", queued(web, key, {"X-Priority": asked}))[0][0]
        for asked in ("2", "9", "-1")
    }
    assert found == {"2": 2, "9": 3, "-1": -1}


@pytest.mark.parametrize(
    ("header", "value"),
    [("X-Priority", "high"), ("X-Priority", "1.5"), ("X-Priority", "9999999"), ("X-Priority", "")]
    + [("Cancel-After", value) for value in ("0", "0.9", "-5", "soon", "1d", "5m 3s", "", "٣")],
)
def test_rubbish_in_a_header_is_refused_with_its_name(web: Atelier, header: str, value: str) -> None:
    asked = {**web.bearer(web.key), header: value.encode()}
    answer = web.http.post("/v1/workflows/run", json=body(), headers=asked)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["params"]) == (400, header)


@pytest.mark.parametrize(
    ("headers", "more", "wanted"),
    [
        ({"Cancel-After": "90"}, {}, 90.0),
        ({"Cancel-After": "1h30m"}, {"deadline_s": 500}, 500.0),
        ({"Cancel-After": "1m1.5s"}, {"deadline_s": 500}, 61.5),
        ({}, {"deadline_s": 1}, 1.0),
        ({"Cancel-After": "9000h"}, {}, None),
    ],
)
def test_the_shorter_deadline_is_kept(
    web: Atelier, headers: dict[str, str], more: dict[str, Any], wanted: float | None
) -> None:
    run_id = queued(web, None, headers, **more)
    assert rows(web, "SELECT deadline_s FROM runs WHERE id = ?", run_id) == [(wanted,)]


def test_a_run_that_expires_in_the_queue_is_stopped_and_costs_no_worker(web: Atelier) -> None:
    run = web.run(PICTURE, deadline_s=1).json()["data"]
    assert (run["status"], run["error"]) == ("stopped", "Deadline exceeded: the run did not end within 1 s.")
    ended = "SELECT r.error_code, s.status, s.attempt, s.claimed_at FROM runs r JOIN steps s ON s.run_id = r.id"
    assert rows(web, f"{ended} WHERE r.id = ?", run["id"]) == [("deadline_exceeded", "stopped", 0, None)]


def test_a_run_that_expires_while_it_is_painted_stops_there(painting: Atelier) -> None:
    server = painting
    run = server.run({"prompt": "stall"}, deadline_s=1).json()["data"]
    assert (run["status"], run["error"]) == ("stopped", "Deadline exceeded: the run did not end within 1 s.")
    assert rows(server, "SELECT attempt FROM steps WHERE run_id = ?", run["id"]) == [(1,)]
    assert server.run(PICTURE).json()["data"]["status"] == "succeeded"  # the worker is free again


def test_stopping_one_run_leaves_the_others(painting: Atelier) -> None:
    server = painting
    held, waiting = queued(server, inputs={"prompt": "stall"}), queued(server)
    is_painted = lambda: rows(server, "SELECT run_id FROM steps WHERE status = 'running'") == [(held,)]  # noqa: E731
    server.until("the first is painted", is_painted)
    for _ in range(2):
        stop(server, waiting)
        assert server.detail(waiting)["status"] == "stopped"
    assert server.detail(held)["status"] == "running"
    assert is_painted()
    assert rows(server, "SELECT attempt, claimed_at FROM steps WHERE run_id = ?", waiting) == [(0, None)]
    stop(server, held)
    ends = rows(server, "SELECT status, error_code FROM runs WHERE id IN (?, ?)", held, waiting)
    assert ends == [("stopped", "stopped_by_user")] * 2
    assert server.run(PICTURE).json()["data"]["status"] == "succeeded"


def stop(server: Atelier, run_id: str) -> None:
    answer = server.http.post(f"/v1/workflows/tasks/{run_id}/stop", json={"user": "abc-123"})
    assert (answer.status_code, answer.json()["result"]) == (200, "success")


def test_one_run_of_a_key_waits_for_one_step_of_another_and_is_told_its_place(painting: Atelier) -> None:
    server = painting
    busy, quiet = (server.cli("keys", "create", "--label", label) for label in ("busy", "quiet"))
    long = {"prompt": "p", "steps": 25}  # 0.5 s
    crowd = [queued(server, busy, inputs={"prompt": "hold crowd", "steps": 1})]
    crowd += [queued(server, busy, inputs=long) for _ in range(5)]
    one = queued(server, quiet, inputs=long)
    with following(server, busy, inputs=long) as last:
        (server.data_dir / "release-crowd").touch()
        server.until_ended(one)
        server.until_ended(crowd[-1])
    taken = dict(rows(server, "SELECT run_id, claimed_at FROM steps"))
    ((asked_at,),) = rows(server, "SELECT created_at FROM steps WHERE run_id = ?", one)
    assert sum(asked_at < taken[run_id] < taken[one] for run_id in crowd) <= 1
    told = [event for event in last if event["event"] == "queue_position"]
    positions = [event["data"]["queue_position"] for event in told]
    assert len(positions) >= 2
    assert positions == sorted(positions, reverse=True)
    assert positions[-1] >= 1
    starts = [event["data"]["estimated_start"] for event in told]
    assert starts[-1] is not None
    assert all(start is None or start > asked_at for start in starts)
    names = [event["event"] for event in last]
    assert names.index("queue_position") < names.index("workflow_finished")


@contextmanager
def following(server: Atelier, key: str, **more: Any) -> Iterator[list[dict[str, Any]]]:
    """The events of a run that is submitted now; they are complete when the block and the run have ended."""
    events: list[dict[str, Any]] = []

    def follow() -> None:
        asked = server.bearer(key)
        with (
            httpx.Client(base_url=server.url, timeout=60, headers=asked) as http,
            http.stream("POST", "/v1/workflows/run", json=body(**more)) as answer,
        ):
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    events.append(json.loads(line.removeprefix("data: ")))

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    server.until("the run is accepted", lambda: events)
    yield events
    thread.join(60)
    assert not thread.is_alive()
