"""What is promised of every run, in each dialect: it is seen, stopped, found again, ranked, limited, and not lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from tests.dialects import NO_PICTURES, Json, Pictures, Speaker, png
from tests.servers import Atelier, running

PAINTER = "tests.chaos.painter"
PICTURE = Pictures(png())
DIALECTS = ("openai", "ollama", "early", "llamago", "allm")
TOLD_AS = {dialect: "ollama" if dialect == "early" else dialect for dialect in DIALECTS}
each_dialect = pytest.mark.parametrize("dialect", DIALECTS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    folder, room = tmp_path_factory.mktemp("dialects"), {**os.environ, "ATELIER_PAINTER_ROOM": "8"}
    with running(folder, env_too=room, worker_module=PAINTER, retry_delay_s="0") as server:
        server.until_ready()
        yield server


@pytest.fixture(scope="module")
def speaker(server: Atelier) -> Speaker:
    return Speaker(server)


Asking = Callable[..., "Future[httpx.Response]"]


@pytest.fixture(scope="module")
def aside(speaker: Speaker) -> Iterator[Asking]:
    """Asks, and lets the test go on meanwhile."""
    with ThreadPoolExecutor(16) as threads:
        yield lambda *asked: threads.submit(speaker.ask, *asked)


def logged(server: Atelier, dialect: str, status: str) -> list[Json]:
    entries = server.http.get("/v1/workflows/logs", params={"status": status, "limit": 100}).json()["data"]
    return [entry for entry in entries if entry["dialect"] == TOLD_AS[dialect]]


def message(dialect: str, answer: httpx.Response, status: int, kind: str = "") -> str:
    """What an error says, once it is seen to have the dialect's shape. `kind`: what programs go by."""
    said = answer.json()
    assert answer.status_code == status, answer.text
    match dialect:
        case "openai":
            assert list(said) == ["error"]
            assert list(said["error"]) == ["message", "type", "param", "code"]
            assert not kind or said["error"]["code"] == kind
            return str(said["error"]["message"])
        case "early":
            assert (list(said), list(said["error"])) == (["error"], ["message"])
            return str(said["error"]["message"])
        case "allm":
            assert said["__type__"] == "ALLM.Error.ImageAdapterError"
            assert not kind or said["data"]["metadata"]["code"] == kind
            return str(said["data"]["message"])
    assert list(said) == ["error"]
    return str(said["error"])


@each_dialect
def test_a_run_tells_its_dialect_wherever_runs_are_told(server: Atelier, speaker: Speaker, dialect: str) -> None:
    run_id = speaker.ask(dialect).headers["x-workflow-run-id"]
    assert logged(server, dialect, "succeeded")[0]["workflow_run"]["id"] == run_id
    (listed,) = server.http.get("/v1/workflows/runs", params={"ids": run_id}).json()["data"]
    asked = server.http.get(f"/v1/workflows/run/{run_id}?include=task").json()["task"]
    assert listed["dialect"] == asked["dialect"] == TOLD_AS[dialect]
    assert f'atelier_runs_accepted_total{{dialect="{TOLD_AS[dialect]}"' in server.http.get("/metrics").text
    (shown,) = [line for line in server.cli("top", "--once").splitlines() if line.startswith(run_id)]
    assert f" {TOLD_AS[dialect]} " in shown


STOPPED = {dialect: (499, "request canceled") if TOLD_AS[dialect] == "ollama" else (409, "") for dialect in DIALECTS}


@each_dialect
def test_a_run_that_is_found_in_the_log_and_stopped_is_an_error_for_its_caller(
    server: Atelier, aside: Asking, dialect: str
) -> None:
    asking = aside(dialect, {"prompt": "stall"})
    (entry,) = server.until("it is seen", lambda: logged(server, dialect, "running"))
    stopped = server.http.post(f"/v1/workflows/tasks/{entry['id']}/stop", json={"user": "operator"}).json()
    status, text = STOPPED[dialect]
    assert stopped["status"] == "stopped"
    assert text in message(dialect, asking.result(), status, "run_stopped")


@pytest.mark.parametrize(
    ("dialect", "words", "last"),
    [
        ("openai", {"stream": True}, 'event: error\ndata: {"error":{"message":'),
        ("ollama", {"stream": True}, '{"error":"request canceled"}\n'),
        ("early", {"stream": True}, 'event:error\ndata:{"error":"request canceled"}\n\n'),
        ("llamago", {"stream": True}, 'data: {"error":"'),
    ],
)
def test_a_stream_whose_run_is_stopped_ends_with_the_error(
    server: Atelier, aside: Asking, dialect: str, words: Json, last: str
) -> None:
    asking = aside(dialect, {"prompt": "hold stream", **words})
    (entry,) = server.until("it is seen", lambda: logged(server, dialect, "running"))
    server.http.post(f"/v1/workflows/tasks/{entry['workflow_run']['id']}/stop", json={"user": "operator"})
    answer = asking.result()
    assert (answer.status_code, answer.headers["x-task-id"]) == (200, entry["id"])
    assert last in answer.text


def test_callers_get_their_pictures_though_the_worker_was_killed(server: Atelier, aside: Asking) -> None:
    asking = {dialect: aside(dialect, {"prompt": f"hold {dialect}"}) for dialect in DIALECTS}

    def painted() -> set[str]:
        runs = server.http.get("/v1/workflows/runs", params={"status": "running"}).json()["data"]
        paths = [f"/v1/workflows/run/{run['id']}?include=progress" for run in runs]
        told = [server.http.get(path).json() for path in paths]
        return {run["id"] for run in told if run["progress"] and run["progress"]["step"]}

    server.until("all are being painted", lambda: len(painted()) == len(DIALECTS))
    os.kill(server.worker_pid(PAINTER) or 0, signal.SIGKILL)
    for dialect in DIALECTS:
        (server.data_dir / f"release-{dialect}").touch()
    for asked in asking.values():
        answer = asked.result()
        run_id = answer.headers["x-workflow-run-id"]
        run = server.http.get(f"/v1/workflows/run/{run_id}?include=steps,artifacts").json()
        assert (answer.status_code, run["status"], len(run["artifacts"])) == (200, "succeeded", 1)
        assert [step["attempts"] for step in run["steps"] if step["node_id"] == "paint"] == [2]


@each_dialect
def test_what_is_too_much_is_refused_in_its_words_with_when_to_come_again(
    server: Atelier, speaker: Speaker, dialect: str
) -> None:
    with one_under_way(server) as bearer:
        answer = speaker.ask(dialect, {}, NO_PICTURES, bearer)
    assert int(answer.headers["retry-after"]) > 0
    status = 503 if TOLD_AS[dialect] == "ollama" else 429
    assert message(dialect, answer, status, "too_many_requests")
    if dialect == "allm":
        assert answer.json()["data"]["reason"] == "rate_limited"
        assert answer.json()["data"]["retry_after_ms"] == 1000 * int(answer.headers["retry-after"])


@contextmanager
def one_under_way(server: Atelier) -> Iterator[dict[str, str]]:
    """A key that may have one run under way, and has it."""
    bearer = server.bearer(server.cli("keys", "create", "--max-active", "1"))
    body = {"inputs": {"prompt": "stall"}, "response_mode": "async", "user": "u"}
    run = server.http.post("/v1/workflows/run", json=body, headers=bearer).json()
    try:
        yield bearer
    finally:
        server.http.post(f"/v1/workflows/tasks/{run['task_id']}/stop", json={"user": "u"}, headers=bearer)


@each_dialect
def test_the_same_key_and_the_same_picture_are_the_same_run(speaker: Speaker, dialect: str) -> None:
    given = NO_PICTURES if dialect == "early" else PICTURE
    headers = {"idempotency-key": f"again-{dialect}"}
    first, second = (speaker.ask(dialect, {}, given, headers) for _ in range(2))
    assert first.status_code == second.status_code == 200
    assert first.headers["x-workflow-run-id"] == second.headers["x-workflow-run-id"]
    assert (first.headers.get("idempotency-replayed"), second.headers["idempotency-replayed"]) == (None, "true")
    other = ({"prompt": "another"}, given) if dialect == "early" else ({}, Pictures(png(color="blue")))
    assert message(dialect, speaker.ask(dialect, *other, headers), 422, "idempotency_conflict")


@each_dialect
def test_a_priority_is_heard(server: Atelier, speaker: Speaker, dialect: str) -> None:
    run_id = speaker.ask(dialect, {}, NO_PICTURES, {"x-priority": "-3"}).headers["x-workflow-run-id"]
    assert server.http.get(f"/v1/workflows/run/{run_id}?include=task").json()["task"]["priority"] == -3
    wrong = speaker.ask(dialect, {}, NO_PICTURES, {"x-priority": "soon"})
    assert "X-Priority must be a whole number" in message(dialect, wrong, 400)


def test_a_deadline_ends_it_in_every_dialect(aside: Asking) -> None:
    headers = {"cancel-after": "1"}
    asking = {each: aside(each, {"prompt": "stall"}, NO_PICTURES, headers) for each in DIALECTS}
    for dialect, asked in asking.items():
        assert message(dialect, asked.result(), 504, "run_overdue")
        if dialect == "allm":
            assert asked.result().json()["data"]["reason"] == "timeout"
