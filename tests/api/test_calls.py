"""One request, one run: blocking calls that nothing cuts, 202 answers, Idempotency-Keys, broken calls asked again."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers import Atelier, running, start

RUN = "/v1/workflows/run"
PAINTER = {"worker_module": "tests.chaos.painter"}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    with running(tmp_path_factory.mktemp("calls"), blocking_beat_s="0.1", **PAINTER) as server:
        server.until_ready()
        yield server


def body(name: str, **more: Any) -> dict[str, Any]:
    """A request whose picture is painted when `release` has been called for the name."""
    return {"inputs": {"prompt": f"hold {name}", "steps": 1}, "response_mode": "blocking", "user": "abc-123"} | more


def release(server: Atelier, name: str) -> None:
    (server.data_dir / f"release-{name}").touch()


def asked_for(server: Atelier, name: str) -> list[str]:
    """The runs that were made for the name."""
    logs = server.http.get("/v1/workflows/logs", params={"keyword": f"hold {name}", "limit": 100}).json()["data"]
    return [entry["workflow_run"]["id"] for entry in logs]


def post(server: Atelier, asked: dict[str, Any], **headers: str) -> httpx.Response:
    return server.http.post(RUN, json=asked, headers={name.replace("_", "-"): text for name, text in headers.items()})


@contextmanager
def waiting(server: Atelier, asked: dict[str, Any]) -> Iterator[tuple[httpx.Response, Iterator[bytes]]]:
    """A blocking call that has got its headers, and what comes after them."""
    with server.http.stream("POST", RUN, json=asked) as answer:
        yield answer, answer.iter_raw()


def break_call(server: Atelier, asked: dict[str, Any]) -> str:
    """Posts, reads the headers, and hangs up; the run's id. The server has noticed when this returns."""
    with waiting(server, asked) as (answer, _):
        run_id = answer.headers["x-workflow-run-id"]
    return run_id


def test_ids_come_at_once_then_spaces_then_the_answer(web: Atelier) -> None:
    with waiting(web, body("beat")) as (answer, chunks):
        assert answer.status_code == 200
        assert answer.headers["x-accel-buffering"] == "no"
        run_id = answer.headers["x-workflow-run-id"]
        assert web.detail(run_id)["status"] == "running"
        assert [next(chunks), next(chunks)] == [b" ", b" "]
        release(web, "beat")
        told = json.loads(b"".join(chunks))
    assert told["workflow_run_id"] == run_id
    assert told["task_id"] == answer.headers["x-task-id"]
    assert told["data"]["status"] == "succeeded"


def test_a_client_that_waits_less_than_the_run_gets_its_answer(web: Atelier) -> None:
    threading.Timer(2.5, release, (web, "patient")).start()
    with httpx.Client(base_url=web.url, headers=web.bearer(web.key), timeout=1.5) as impatient:
        assert impatient.post(RUN, json=body("patient")).json()["data"]["status"] == "succeeded"


def test_inputs_are_refused_before_anything_is_sent(web: Atelier) -> None:
    answer = web.run({"prompt": "x", "width": 7})
    assert answer.status_code == 400
    assert "x-workflow-run-id" not in answer.headers


def test_after_the_wait_that_was_wished_for_the_run_itself_is_the_answer(web: Atelier) -> None:
    answer = post(web, body("wish"), Prefer="wait=1")
    assert answer.status_code == 200, "the head had been sent"
    told = answer.json()
    assert told["data"]["status"] == "running"
    release(web, "wish")
    assert web.http.get(told["location"]).json()["id"] == told["workflow_run_id"]
    assert web.until_ended(told["workflow_run_id"])["status"] == "succeeded"


def test_without_beats_the_bound_is_a_202(tmp_path: Path) -> None:
    with running(tmp_path, blocking_beat_s="0", blocking_wait_s="0.3", worker="none") as server:
        answer = server.run({"prompt": "x"})
        assert answer.status_code == 202
        assert answer.json()["data"]["status"] == "running"
        assert answer.headers["location"] == f"/v1/workflows/run/{answer.json()['workflow_run_id']}"
        assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("mode", "prefer"), [("async", None), ("blocking", "respond-async"), ("async", "respond-async, wait=5")]
)
def test_an_asynchronous_run_is_answered_with_the_run(web: Atelier, mode: str, prefer: str | None) -> None:
    asked = body("later", response_mode=mode)
    answer = post(web, asked, **({"Prefer": prefer} if prefer else {}))
    assert answer.status_code == 202
    told = answer.json()
    assert told["status"] == "running"
    assert told["task_id"] == answer.headers["x-task-id"]
    assert answer.headers["location"] == f"/v1/workflows/run/{told['id']}" == told["location"]
    assert told["id"] in asked_for(web, "later"), "it is listed at once"
    release(web, "later")
    assert web.until_ended(told["id"])["outputs"]["files"]


def test_a_key_makes_one_run_whatever_mode_is_asked_for(web: Atelier) -> None:
    first = post(web, body("modes", response_mode="async"), Idempotency_Key='"modes"')
    assert "idempotency-replayed" not in first.headers
    release(web, "modes")
    blocking = post(web, body("modes"), Idempotency_Key="modes")
    streaming = post(web, body("modes", response_mode="streaming"), Idempotency_Key="modes")
    again = post(web, body("modes", response_mode="async"), Idempotency_Key="modes")
    assert blocking.json()["data"]["status"] == "succeeded"
    assert streaming.text.count("workflow_finished") == 1
    assert again.json()["status"] == "succeeded"
    for answer in (blocking, streaming, again):
        assert answer.headers["idempotency-replayed"] == "true"
        assert answer.headers["x-workflow-run-id"] == first.json()["id"]
    assert asked_for(web, "modes") == [first.json()["id"]]


def test_a_stream_goes_on_after_the_event_that_the_caller_has(web: Atelier) -> None:
    asked = body("resume", response_mode="streaming")
    release(web, "resume")
    whole = post(web, asked, Idempotency_Key="resume").text
    rest = post(web, asked, Idempotency_Key="resume", Last_Event_Id="3").text
    assert whole.count("id: ") - 3 == rest.count("id: ")
    assert rest.count("workflow_finished") == 1


@pytest.mark.parametrize("change", [{"user": "other"}, {"inputs": {"prompt": "another"}}])
def test_a_key_with_another_body_is_a_conflict(web: Atelier, change: dict[str, Any]) -> None:
    asked = body("conflict", response_mode="async")
    first = post(web, asked, Idempotency_Key="conflict")
    answer = post(web, asked | change, Idempotency_Key="conflict")
    assert answer.status_code == 422
    assert answer.json()["code"] == "idempotency_conflict"
    assert first.json()["id"] in answer.json()["message"]
    release(web, "conflict")


@pytest.mark.parametrize("key", ["", '""', "a b", "x" * 256, '"open'])
def test_a_key_that_is_none_is_refused(web: Atelier, key: str) -> None:
    answer = post(web, body("never"), Idempotency_Key=key)
    assert answer.status_code == 400
    assert answer.json()["params"] == "Idempotency-Key"


def test_a_refused_body_does_not_use_up_its_key(web: Atelier) -> None:
    wrong = body("used", response_mode="async") | {"inputs": {"prompt": "x", "width": 7}}
    assert post(web, wrong, Idempotency_Key="used").status_code == 400
    release(web, "used")
    assert post(web, body("used"), Idempotency_Key="used").status_code == 200


def test_the_same_key_of_another_callers_key_is_another_run(web: Atelier) -> None:
    asked = body("scope", response_mode="async")
    other = web.cli("keys", "create", "--app", "text-to-image")
    mine = post(web, asked, Idempotency_Key="scope").json()
    theirs = web.http.post(RUN, json=asked, headers=web.bearer(other) | {"Idempotency-Key": "scope"}).json()
    assert mine["id"] != theirs["id"]
    release(web, "scope")


def test_a_call_that_broke_and_comes_again_gets_its_run(web: Atelier) -> None:
    run_id = break_call(web, body("again"))
    with waiting(web, body("again")) as (answer, chunks):
        assert answer.headers["x-workflow-run-id"] == run_id
        assert answer.headers["idempotency-replayed"] == "true"
        release(web, "again")
        assert json.loads(b"".join(chunks))["data"]["status"] == "succeeded"
    assert asked_for(web, "again") == [run_id]
    release(web, "again")
    assert web.run(body("again")["inputs"]).json()["workflow_run_id"] != run_id, "an answered call is over"


def test_a_call_that_broke_gets_its_run_even_after_the_end(web: Atelier) -> None:
    run_id = break_call(web, body("ended"))
    release(web, "ended")
    web.until_ended(run_id)
    assert web.run(body("ended")["inputs"]).json()["workflow_run_id"] == run_id


def test_calls_that_wait_are_never_merged(web: Atelier) -> None:
    with ThreadPoolExecutor(4) as callers:
        answers = [callers.submit(web.run, body("four")["inputs"]) for _ in range(4)]
        web.until("four runs", lambda: len(asked_for(web, "four")) == 4)
        release(web, "four")
        assert len({answer.result().json()["workflow_run_id"] for answer in answers}) == 4


def test_another_user_or_other_inputs_are_another_run(web: Atelier) -> None:
    run_id = break_call(web, body("own"))
    release(web, "own")
    for change in ({"user": "other"}, {"inputs": {"prompt": "hold own", "steps": 1, "seed": 5}}):
        assert web.http.post(RUN, json=body("own") | change).json()["workflow_run_id"] != run_id


def test_attaching_can_be_switched_off(tmp_path: Path) -> None:
    with running(tmp_path, reattach_s="0", **PAINTER) as server:
        run_id = break_call(server, body("off"))
        release(server, "off")
        assert server.run(body("off")["inputs"]).json()["workflow_run_id"] != run_id


def test_a_call_that_broke_with_its_server_gets_its_run(tmp_path: Path) -> None:
    server = start(tmp_path, **PAINTER)
    with waiting(server, body("killed")) as (answer, chunks):
        run_id = answer.headers["x-workflow-run-id"]
        server.kill()
        with pytest.raises(httpx.RemoteProtocolError):
            list(chunks)
    release(server, "killed")
    with running(tmp_path, **PAINTER) as again:
        answer = again.run(body("killed")["inputs"])
        assert answer.json()["workflow_run_id"] == run_id
        assert answer.json()["data"]["status"] == "succeeded"


def test_a_hundred_posts_at_once_are_one_run(web: Atelier) -> None:
    """All on connections of their own, sent at the same moment."""
    content = json.dumps(body("hundred", response_mode="async")).encode()
    head = (
        f"POST {RUN} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {web.key}\r\nContent-Type: application/json\r\n"
        f"Idempotency-Key: hundred\r\nConnection: close\r\nContent-Length: {len(content)}\r\n\r\n"
    ).encode()
    host, port = web.url.removeprefix("http://").split(":")
    lines = [socket.create_connection((host, int(port))) for _ in range(100)]
    for line in lines:
        line.sendall(head + content)
    answers = [line.makefile("rb").read() for line in lines]
    ids = {json.loads(answer.partition(b"\r\n\r\n")[2])["id"] for answer in answers}
    assert len(ids) == 1
    assert sum(b"idempotency-replayed: true" in answer for answer in answers) == 99
    release(web, "hundred")


def test_stop_says_how_the_run_stands_now(web: Atelier) -> None:
    asked = post(web, body("stop", response_mode="async")).json()
    for name in (asked["task_id"], asked["id"]):
        answer = web.http.post(f"/v1/workflows/tasks/{name}/stop", json={"user": "abc-123"}).json()
        assert answer == {
            "result": "success",
            "workflow_run_id": asked["id"],
            "task_id": asked["task_id"],
            "status": "stopped",
        }
