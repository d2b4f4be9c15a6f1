"""Runs over HTTP without a worker: both modes, the detail, the log, stop."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from tests.servers import Atelier

BLOCKING_KEYS = ["task_id", "workflow_run_id", "data"]
DATA_KEYS = ["id", "workflow_id", "status", "outputs", "error", "elapsed_time", "total_tokens", "total_steps"]
DATA_KEYS += ["created_at", "finished_at"]


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


def test_a_blocking_run_answers_in_difys_shape(web: Atelier, echo_key: str) -> None:
    answer = web.run({"text": "héllo 胸有成竹"}, echo_key)
    body = answer.json()
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert list(body) == BLOCKING_KEYS
    assert list(body["data"]) == DATA_KEYS
    assert body["data"]["id"] == body["workflow_run_id"] == answer.headers["x-workflow-run-id"]
    assert body["data"]["status"] == "succeeded"
    assert body["data"]["outputs"] == {"text": "héllo 胸有成竹"}
    assert body["data"]["error"] is None
    assert body["data"]["total_steps"] == 3
    assert isinstance(body["data"]["created_at"], int)


def test_head_and_body_of_an_answer_come_together(web: Atelier) -> None:
    """One system call here, one there."""
    url = web.http.base_url
    with socket.create_connection((url.host, url.port), timeout=10) as line:
        for _ in range(20):
            line.sendall(b"GET /livez HTTP/1.1\r\nHost: atelier\r\n\r\n")
            head, _, body = line.recv(65536).partition(b"\r\n\r\n")
            assert b"content-length: %d" % len(body) in head
            assert json.loads(body)


def test_without_a_mode_a_run_blocks(web: Atelier, echo_key: str) -> None:
    for mode in ({}, {"response_mode": None}):
        body = {"inputs": {"text": "x"}, "user": 7, **mode}
        answer = web.http.post("/v1/workflows/run", json=body, headers=web.bearer(echo_key))
        assert answer.json()["data"]["status"] == "succeeded"


def test_a_stream_tells_every_event_once_and_in_order(web: Atelier, echo_key: str) -> None:
    answer = web.run({"text": "hello"}, echo_key, response_mode="streaming")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.text.startswith("event: ping\nretry: 1000\n\nid: 1\ndata: {")
    told = events(answer.text)
    assert [(e["event"], e["data"].get("node_id")) for e in told] == [
        ("workflow_started", None),
        ("node_started", "start"),
        ("node_finished", "start"),
        ("node_started", "repeat"),
        ("text_chunk", None),
        ("node_finished", "repeat"),
        ("node_started", "finish"),
        ("node_finished", "finish"),
        ("workflow_finished", None),
    ]
    assert all(list(e) == ["event", "workflow_run_id", "task_id", "data"] for e in told)
    assert told[0]["data"]["inputs"]["sys.user_id"] == "abc-123"
    assert told[4]["data"] == {"text": "hello", "from_variable_selector": ["repeat", "output"]}
    assert told[-1]["data"]["created_by"]["user"] == "abc-123"


def test_nodes_know_their_place_and_their_parent(web: Atelier, echo_key: str) -> None:
    told = events(web.run({"text": "hello"}, echo_key, response_mode="streaming").text)
    finished = [e["data"] for e in told if e["event"] == "node_finished"]
    assert [(d["index"], d["predecessor_node_id"]) for d in finished] == [(1, None), (2, "start"), (3, "repeat")]
    assert finished[1]["inputs"] == {"text": "hello"}
    assert finished[1]["outputs"] == {"output": "hello"}


def test_both_modes_leave_the_same_run_behind(web: Atelier, echo_key: str) -> None:
    headers = web.bearer(echo_key)
    ids = [
        web.run({"text": "same"}, echo_key, response_mode=m).headers["x-workflow-run-id"]
        for m in ("blocking", "streaming")
    ]
    blocking, streaming = (web.http.get(f"/v1/workflows/run/{i}", headers=headers).json() for i in ids)
    for one in (blocking, streaming):
        assert json.loads(one["inputs"])["text"] == "same"
        assert one["outputs"] == {"text": "same"}
        assert (one["status"], one["total_steps"], one["error"]) == ("succeeded", 3, None)
    assert blocking["workflow_id"] == streaming["workflow_id"]


def test_a_run_of_another_app_is_not_there(web: Atelier, echo_key: str) -> None:
    run_id = web.run({"text": "mine"}, echo_key).json()["workflow_run_id"]
    assert web.http.get(f"/v1/workflows/run/{run_id}").status_code == 404


def test_a_failing_node_is_answered_200_and_can_be_read_afterwards(web: Atelier, tmp_path: Path) -> None:
    text = Path("workflows/echo.yml").read_text().replace("{{ text }}", "{{ text / 2 }}")
    assert "text / 2" in text
    (tmp_path / "halve.yml").write_text(text)
    key = web.app_key(tmp_path / "halve.yml")
    answer = web.run({"text": "not a number"}, key)
    assert answer.status_code == 200
    assert answer.json()["data"]["status"] == "failed"
    assert "unsupported operand" in answer.json()["data"]["error"]
    run_id = answer.json()["workflow_run_id"]
    detail = web.http.get(f"/v1/workflows/run/{run_id}", headers=web.bearer(key)).json()
    assert (detail["status"], detail["error"]) == ("failed", answer.json()["data"]["error"])


def test_the_log_pages_and_filters(web: Atelier, workflows: Path) -> None:
    key = web.app_key(workflows / "echo.yml", "logged")
    headers = web.bearer(key)
    for i in range(5):
        web.run({"text": f"number {i}"}, key, user="eve" if i % 2 else "adam")
    page = web.http.get("/v1/workflows/logs?page=2&limit=2&status=succeeded", headers=headers).json()
    assert (page["page"], page["limit"], page["total"], page["has_more"], len(page["data"])) == (2, 2, 5, True, 2)
    assert page["data"][0]["created_by_end_user"]["session_id"] == "adam"
    assert page["data"][0]["workflow_run"]["status"] == "succeeded"
    assert web.http.get("/v1/workflows/logs?status=failed", headers=headers).json()["total"] == 0
    assert web.http.get("/v1/workflows/logs?keyword=NUMBER%203", headers=headers).json()["total"] == 1
    assert web.http.get("/v1/workflows/logs?created_by_end_user_session_id=eve", headers=headers).json()["total"] == 2
    assert web.http.get("/v1/workflows/logs?created_at__before=2020-01-01", headers=headers).json()["total"] == 0


def test_a_queued_run_is_stopped_without_a_worker(web: Atelier) -> None:
    with web.http.stream(
        "POST",
        "/v1/workflows/run",
        json={"inputs": {"prompt": "a red circle"}, "response_mode": "streaming", "user": "abc-123"},
    ) as stream:
        run_id, task_id = stream.headers["x-workflow-run-id"], stream.headers["x-task-id"]
        assert web.detail(run_id)["status"] == "running"
        stopped = web.http.post(f"/v1/workflows/tasks/{task_id}/stop", json={"user": "abc-123"})
        assert (stopped.status_code, stopped.json()["result"], stopped.json()["status"]) == (200, "success", "stopped")
        told = events("".join(stream.iter_text()))
    assert told[-1]["event"] == "workflow_finished"
    assert (told[-1]["data"]["status"], told[-1]["data"]["error"]) == ("stopped", "Stopped by user.")
    assert web.detail(run_id)["status"] == "stopped"


def test_stopping_twice_is_the_same_as_once_and_an_ended_run_keeps_its_end(web: Atelier, echo_key: str) -> None:
    headers = web.bearer(echo_key)
    done = web.run({"text": "done"}, echo_key).json()
    for _ in range(2):
        again = web.http.post(f"/v1/workflows/tasks/{done['task_id']}/stop", json={"user": "u"}, headers=headers)
        assert again.status_code == 200
    detail = web.http.get(f"/v1/workflows/run/{done['workflow_run_id']}", headers=headers).json()
    assert detail["status"] == "succeeded"


def test_stopping_what_is_not_there_says_so(web: Atelier, echo_key: str) -> None:
    foreign = web.run({"text": "foreign"}, echo_key).json()["task_id"]
    for task_id in ("00000000-0000-7000-8000-000000000000", "abc", foreign):
        answer = web.http.post(f"/v1/workflows/tasks/{task_id}/stop", json={"user": "u"})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_info_and_parameters_tell_of_the_app(web: Atelier) -> None:
    info = web.http.get("/v1/info").json()
    assert (info["name"], info["mode"]) == ("Text to image", "workflow")
    form = web.http.get("/v1/parameters?user=abc").json()["user_input_form"]
    assert list(form[0]) == ["paragraph"]
    assert form[0]["paragraph"]["variable"] == "prompt"
    assert form[0]["paragraph"]["required"] is True


def test_a_new_version_is_run_by_the_same_key(web: Atelier, workflows: Path, tmp_path: Path) -> None:
    key = web.app_key(workflows / "echo.yml", "versioned")
    before = web.run({"text": "x"}, key).json()["data"]["workflow_id"]
    (tmp_path / "loud.yml").write_text((workflows / "echo.yml").read_text().replace("{{ text }}", "{{ text }}!"))
    web.cli("workflows", "publish", str(tmp_path / "loud.yml"), "--app", "versioned")
    loud = lambda: web.run({"text": "x"}, key).json()["data"]["outputs"] == {"text": "x!"}  # noqa: E731
    web.until("the new version runs", loud)
    assert web.run({"text": "x"}, key).json()["data"]["workflow_id"] != before


def test_alive_at_once_and_ready_only_with_a_worker(web: Atelier) -> None:
    assert web.http.get("/livez").json() == {"status": "ok"}
    ready = web.http.get("/readyz").json()
    assert ready["checkpoint"] == "atelier-shapes"
    assert ready["worker"] == "none"


def test_any_origin_may_ask(web: Atelier) -> None:
    asked = {"origin": "https://example.com", "access-control-request-method": "POST"}
    answer = web.http.options("/v1/workflows/run", headers=asked)
    assert answer.headers["access-control-allow-origin"] == "*"
