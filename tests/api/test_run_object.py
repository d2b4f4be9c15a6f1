"""The run object: Dify's fields always, and what `include` adds, while the run goes on and after it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.api.dify.shapes import RunObject
from tests.servers import Atelier, running

PAINTER = "tests.chaos.painter"
EVERYTHING = "steps,artifacts,timings,progress,task"
DIFYS_FIELDS = ["id", "workflow_id", "status", "inputs", "outputs", "error", "total_steps", "total_tokens"]
DIFYS_FIELDS += ["created_at", "finished_at", "elapsed_time"]
TIMES = ["queued_s", "load_s", "run_s", "upload_s", "total_s"]
STEP_FIELDS = ["id", "node_id", "title", "node_type", "index", "status", "attempts", "worker", "checkpoint", "seeds"]
STEP_FIELDS += ["error", "error_type", "created_at", "started_at", "finished_at", "timings", "scope"]
ARTIFACT_FIELDS = ["id", "node_id", "step_id", "filename", "mime_type", "size", "sha256", "width", "height", "seed"]
ARTIFACT_FIELDS += ["url", "expires_at", "permalink"]


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    """A server whose worker paints without torch, 20 ms a step, and stores its progress often."""
    with running(tmp_path_factory.mktemp("painter"), worker_module=PAINTER, lease_beat_s="0.1") as server:
        server.until_ready()
        yield server


def including(server: Atelier, run_id: str, include: str = EVERYTHING) -> dict[str, Any]:
    answer = server.http.get(f"/v1/workflows/run/{run_id}", params={"include": include})
    assert answer.status_code == 200, answer.text
    msgspec.json.decode(answer.content, type=RunObject)  # as it is documented
    return dict(answer.json())


def held(server: Atelier, name: str) -> str:
    """The id of a run whose painter has told a step of ten, and waits to be released under that name."""
    return started(server, {"prompt": f"hold {name}", "steps": 10, "seed": 7, "n": 2})


def release(server: Atelier, name: str) -> None:
    (server.data_dir / f"release-{name}").touch()


def started(server: Atelier, inputs: dict[str, Any]) -> str:
    """The id of a run that nobody listens to."""
    body = {"inputs": inputs, "response_mode": "streaming", "user": "abc-123"}
    with server.http.stream("POST", "/v1/workflows/run", json=body) as stream:
        return str(stream.headers["x-workflow-run-id"])


def paint_of(run: dict[str, Any]) -> dict[str, Any]:
    (step,) = (step for step in run["steps"] if step["node_id"] == "paint")
    return dict(step)


def test_without_include_the_body_is_difys_to_the_byte(web: Atelier, echo_key: str) -> None:
    run_id = web.run({"text": "héllo"}, echo_key).json()["workflow_run_id"]
    headers = web.bearer(echo_key)
    for query in ("", "?include=", "?include=,", "?other=1"):
        answer = web.http.get(f"/v1/workflows/run/{run_id}{query}", headers=headers)
        run = answer.json()
        assert list(run) == DIFYS_FIELDS
        system = {"sys.files": [], "sys.user_id": "abc-123", "sys.app_id": json.loads(run["inputs"])["sys.app_id"]}
        system |= {"sys.workflow_id": run["workflow_id"], "sys.workflow_run_id": run_id}
        golden = {
            "id": run_id,
            "workflow_id": run["workflow_id"],
            "status": "succeeded",
            "inputs": json.dumps({"text": "héllo", **system}, ensure_ascii=False, separators=(",", ":")),
            "outputs": {"text": "héllo"},
            "error": None,
            "total_steps": 3,
            "total_tokens": 0,
            "created_at": run["created_at"],
            "finished_at": run["finished_at"],
            "elapsed_time": run["elapsed_time"],
        }
        assert answer.content == msgspec.json.encode(golden)  # which writes small numbers without an exponent


def test_include_adds_what_it_names_behind_difys_fields(web: Atelier, echo_key: str) -> None:
    run_id = web.run({"text": "x"}, echo_key).json()["workflow_run_id"]
    for include in ("timings", "progress,steps", "task", " artifacts ,timings", EVERYTHING):
        answer = web.http.get(
            f"/v1/workflows/run/{run_id}", params={"include": include}, headers=web.bearer(echo_key)
        ).json()
        named = {word.strip() for word in include.split(",")}
        assert list(answer) == [*DIFYS_FIELDS, *(part for part in EVERYTHING.split(",") if part in named)]


def test_an_unknown_word_is_named_with_those_that_are_known(web: Atelier, echo_key: str) -> None:
    run_id = web.run({"text": "x"}, echo_key).json()["workflow_run_id"]
    answer = web.http.get(f"/v1/workflows/run/{run_id}?include=steps,cost", headers=web.bearer(echo_key))
    assert (answer.status_code, answer.json()["code"], answer.json()["params"]) == (400, "invalid_param", "include")
    for word in ("'cost'", *EVERYTHING.split(",")):
        assert word in answer.json()["message"]


def test_another_apps_run_is_not_there_whatever_is_included(web: Atelier, echo_key: str) -> None:
    run_id = web.run({"text": "mine"}, echo_key).json()["workflow_run_id"]
    assert web.http.get(f"/v1/workflows/run/{run_id}?include={EVERYTHING}").status_code == 404


def test_a_queued_run_says_what_it_waits_for_and_a_stopped_one_no_more(web: Atelier) -> None:
    run_id = started(web, {"prompt": "a red circle", "seed": 5, "n": 2})
    run = including(web, run_id)
    paint = paint_of(run)
    assert (paint["status"], paint["attempts"], paint["worker"], paint["started_at"]) == ("queued", 0, None, None)
    assert (paint["seeds"], paint["checkpoint"]) == ([5, 6], "atelier-shapes")
    assert run["timings"]["queued_s"] > 0
    assert (run["progress"]["steps_done"], run["progress"]["node_id"]) == (1, "paint")
    web.http.post(f"/v1/workflows/tasks/{run['task']['id']}/stop", json={"user": "abc-123"})
    stopped = including(web, run_id)
    assert (paint_of(stopped)["status"], stopped["progress"]) == ("stopped", None)


def test_a_run_tells_how_far_it_is_and_afterwards_where_its_time_went(painter: Atelier) -> None:
    run_id = held(painter, "far")
    painter.until("a tick is stored", lambda: including(painter, run_id)["progress"]["step"])
    run = including(painter, run_id)
    paint = paint_of(run)
    assert run["progress"] == {
        "steps_done": 1,
        "steps_total_known": 2,
        "node_id": "paint",
        "step": 1,
        "steps": 10,
        "percent": 10.0,
        "eta_s": 1.5,
        "queue_position": None,
        "estimated_start": None,
    }
    assert (paint["status"], paint["attempts"], paint["timings"]["run_s"]) == ("running", 1, None)
    assert paint["worker"]
    assert list(paint) == STEP_FIELDS
    assert run["artifacts"] == []

    release(painter, "far")
    painter.until_ended(run_id)
    run = including(painter, run_id)
    assert run["progress"] is None
    assert [step["status"] for step in run["steps"]] == ["succeeded"] * 3
    assert list(run["timings"]) == list(paint["timings"]) == TIMES
    assert paint_of(run)["timings"]["run_s"] >= 10 * 0.02
    for part in TIMES[:-1]:
        assert run["timings"][part] == pytest.approx(sum(step["timings"][part] for step in run["steps"]), abs=1e-5)
    assert run["timings"]["total_s"] == pytest.approx(run["elapsed_time"], abs=1e-5)
    assert [made["seed"] for made in run["artifacts"]] == paint["seeds"] == [7, 8]


def test_the_task_says_who_asked(painter: Atelier) -> None:
    run_id = painter.run({"prompt": "p", "steps": 1}, user="eve").json()["workflow_run_id"]
    task = including(painter, run_id, "task")["task"]
    assert (task["key_name"], task["user"], task["response_mode"]) == ("quickstart", "eve", "blocking")
    assert (task["deadline_s"], task["error_code"]) == (None, None)


def test_a_picture_that_lost_its_worker_took_two_attempts(painter: Atelier) -> None:
    run_id = held(painter, "lost")
    painter.until("the step runs", lambda: paint_of(including(painter, run_id))["status"] == "running")
    first = paint_of(including(painter, run_id))["worker"]
    worker = painter.worker_pid(PAINTER)
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    release(painter, "lost")
    assert painter.until_ended(run_id)["status"] == "succeeded"
    paint = paint_of(including(painter, run_id))
    assert (paint["attempts"], paint["status"], paint["error"]) == (2, "succeeded", None)
    assert paint["worker"] not in (None, first)
    assert paint["timings"]["total_s"] >= sum(paint["timings"][part] for part in TIMES[:-1])


def test_a_permalink_is_for_keys_of_its_app_alone(painter: Atelier, workflows: Path) -> None:
    run_id = painter.run({"prompt": "p", "steps": 1}).json()["workflow_run_id"]
    link = including(painter, run_id, "artifacts")["artifacts"][0]["permalink"]
    other = painter.app_key(workflows / "echo.yml")
    assert painter.http.get(link).status_code == 302
    assert painter.http.get(link, headers=painter.bearer(other)).status_code == 404
    assert painter.http.get(link, headers={"authorization": ""}).status_code == 401
    for name in ("nothing", "00000000-0000-7000-8000-000000000000", "%00"):
        assert painter.http.get(f"/v1/files/{name}").status_code == 404
