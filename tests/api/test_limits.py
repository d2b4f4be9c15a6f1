"""Limits of time: each ends a run with the reason that is true, and leaves the worker free for the next."""

from __future__ import annotations

from pathlib import Path

from tests.servers import running

PAINTER = "tests.chaos.painter"


def test_a_step_that_no_worker_takes_fails_its_run_and_says_so(tmp_path: Path) -> None:
    with running(tmp_path, worker="none", queue_timeout_s="1") as server:
        data = server.run({"prompt": "p"}).json()["data"]
        assert data["status"] == "failed"
        assert data["error"] == "The step 'Paint' waited longer than 1 s for a worker of the class gpu."


def test_an_attempt_that_takes_too_long_fails_its_run_and_is_stopped(tmp_path: Path) -> None:
    with running(tmp_path, worker_module=PAINTER, step_timeout_s="1") as server:
        server.until_ready()
        data = server.run({"prompt": "p", "steps": 150}).json()["data"]
        assert (data["status"], data["error"]) == ("failed", "The step 'Paint' ran longer than 1 s.")
        assert server.run({"prompt": "p", "steps": 1}).json()["data"]["status"] == "succeeded"


def test_a_step_without_progress_is_dropped_and_its_worker_lives(tmp_path: Path) -> None:
    with running(tmp_path, worker_module=PAINTER, step_stall_s="0.5", max_attempts="2", retry_delay_s="0") as server:
        server.until_ready()
        worker = server.worker_pid(PAINTER)
        data = server.run({"prompt": "stall"}).json()["data"]
        assert (data["status"], data["error"]) == ("failed", "The step made no progress for 0.5 s. (2 attempts)")
        assert server.worker_pid(PAINTER) == worker


def test_a_worker_that_hangs_is_killed_and_replaced(tmp_path: Path) -> None:
    with running(tmp_path, worker_module=PAINTER, step_stall_s="0.5", max_attempts="1") as server:
        server.until_ready()
        worker = server.worker_pid(PAINTER)
        data = server.run({"prompt": "hang"}).json()["data"]
        assert (data["status"], data["error"]) == ("failed", "The worker was lost. (1 attempts)")
        assert server.run({"prompt": "p", "steps": 1}).json()["data"]["status"] == "succeeded"
        assert server.worker_pid(PAINTER) != worker
