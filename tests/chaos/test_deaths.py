"""Processes that die in the middle of a picture: the run goes on, ends once, and its picture is there."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.test_runs import events
from tests.servers import Atelier, running, start

PAINTER = "tests.chaos.painter"
"""The engine of most tests here: what dies is everything around it, and another start of it costs no torch."""

LONG = {"prompt": "a big blue star on a white background", "steps": 150, "width": 128, "height": 128, "seed": 3}


@contextlib.contextmanager
def painting(server: Atelier, **inputs: Any) -> Iterator[str]:
    """The id of a run whose picture is being painted."""
    body = {"inputs": LONG | inputs, "response_mode": "streaming", "user": "u"}
    with server.http.stream("POST", "/v1/workflows/run", json=body) as stream:
        for line in stream.iter_lines():
            if "node_progress" in line:
                break
        yield stream.headers["x-workflow-run-id"]


def painted(server: Atelier, run: dict[str, Any]) -> bool:
    (file,) = run["outputs"]["files"]
    content = server.http.get(file["url"]).content
    return content.startswith(b"\x89PNG") and len(content) == file["size"]


def facts(server: Atelier, run_id: str) -> list[str]:
    """The kinds of the run's events, as a new listener hears them from the first to the last."""
    with contextlib.closing(sqlite3.connect(server.data_dir / "atelier.db")) as db:
        rows = db.execute("SELECT first_entries FROM runs WHERE id = ?", (run_id,)).fetchall()
        rows += db.execute("SELECT entries FROM events WHERE run_id = ? ORDER BY first_seq", (run_id,)).fetchall()
    return [entry[0] for row in rows for entry in json.loads(row[0])]


def test_a_killed_server_finishes_its_run_after_a_new_start(tmp_path: Path) -> None:
    server = start(tmp_path, worker_module=PAINTER)
    server.until_ready()
    with contextlib.suppress(httpx.TransportError), painting(server) as run_id:
        worker = server.worker_pid(PAINTER)
        server.kill()
    assert worker is not None
    with running(tmp_path, worker_module=PAINTER) as again:
        run = again.until_ended(run_id)
        assert run["status"] == "succeeded"
        assert painted(again, run)
        assert facts(again, run_id).count("run_finished") == 1
        assert not alive(worker), "the worker outlived its server"


def test_a_killed_worker_is_replaced_and_the_run_goes_on(tmp_path: Path) -> None:
    # The one with the real engine: its picture is begun again like any other's.
    with running(tmp_path) as server:
        server.until_ready()
        with painting(server, steps=60) as run_id:
            os.kill(server.worker_pid() or 0, signal.SIGKILL)
        run = server.until_ended(run_id)
        assert run["status"] == "succeeded"
        assert painted(server, run)
        told = facts(server, run_id)
        assert told.count("step_retried") == 1
        assert told.count("run_finished") == 1


def test_the_api_goes_on_while_there_is_no_worker(tmp_path: Path) -> None:
    with running(tmp_path, worker_module=PAINTER) as server:
        server.until_ready()
        os.kill(server.worker_pid(PAINTER) or 0, signal.SIGKILL)
        assert server.http.get("/livez").status_code == 200
        assert server.run({"prompt": "a red ring", "steps": 2}).json()["data"]["status"] == "succeeded"


def test_a_listener_hears_of_the_retry_and_of_one_end(tmp_path: Path) -> None:
    with running(tmp_path, worker_module=PAINTER) as server:
        server.until_ready()
        body = {"inputs": LONG, "response_mode": "streaming", "user": "u"}
        with server.http.stream("POST", "/v1/workflows/run", json=body) as stream:
            lines, killed = [], False
            for line in stream.iter_lines():
                if "node_progress" in line and not killed:
                    os.kill(server.worker_pid(PAINTER) or 0, signal.SIGKILL)
                    killed = True
                lines.append(line)
        told = events("\n".join(lines))
        (retry,) = [e["data"] for e in told if e["event"] == "node_retry"]
        assert (retry["retry_index"], retry["status"]) == (1, "retry")
        assert [e["event"] for e in told].count("workflow_finished") == 1
        assert told[-1]["data"]["status"] == "succeeded"


@pytest.mark.slow
def test_a_step_that_loses_every_worker_fails_and_says_so(tmp_path: Path) -> None:
    with running(tmp_path, worker_module=PAINTER, max_attempts="2") as server:
        server.until_ready()
        with painting(server) as run_id:
            os.kill(server.worker_pid(PAINTER) or 0, signal.SIGKILL)
        server.until("the second attempt paints", lambda: attempts(server, run_id) == 2)
        os.kill(server.worker_pid(PAINTER) or 0, signal.SIGKILL)
        run = server.until_ended(run_id)
        assert run["status"] == "failed"
        assert "The worker was lost. (2 attempts)" in run["error"]
        assert server.run({"prompt": "a red ring", "steps": 2}).json()["data"]["status"] == "succeeded"


@pytest.mark.slow
def test_a_frozen_worker_is_replaced_and_its_late_outcome_refused(tmp_path: Path) -> None:
    with running(tmp_path, worker_module=PAINTER, step_stall_s="3") as server:
        server.until_ready()
        with painting(server) as run_id:
            os.kill(server.worker_pid(PAINTER) or 0, signal.SIGSTOP)
        run = server.until_ended(run_id)
        assert run["status"] == "succeeded"
        assert facts(server, run_id).count("run_finished") == 1


def test_a_stopped_server_gives_its_step_back_and_exits_clean(tmp_path: Path) -> None:
    server = start(tmp_path, worker_module=PAINTER)
    server.until_ready()
    with contextlib.suppress(httpx.TransportError), painting(server) as run_id:
        assert server.stop() == 0
    with running(tmp_path, worker_module=PAINTER) as again:
        assert again.until_ended(run_id)["status"] == "succeeded"


def test_a_run_that_takes_too_long_fails_with_its_reason(tmp_path: Path) -> None:
    with running(tmp_path, worker="none", run_timeout_s="1") as server:
        answer = server.run({"prompt": "nobody paints this"})
        assert answer.json()["data"]["status"] == "failed"
        assert answer.json()["data"]["error"] == "The run took longer than 1 s."


def attempts(server: Atelier, run_id: str) -> int:
    with contextlib.closing(sqlite3.connect(server.data_dir / "atelier.db")) as db:
        row = db.execute("SELECT attempt FROM steps WHERE run_id = ? AND status = 'running'", (run_id,)).fetchone()
    return int(row[0]) if row else 0


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "zombie" not in Path(f"/proc/{pid}/status").read_text()
