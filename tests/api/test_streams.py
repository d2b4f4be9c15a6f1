"""Streams that resume: every event once and in order, whatever cuts the line, and exactly one end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.test_polls import poll
from tests.servers import ROOT, Atelier, running, start
from tests.streams import Frame, begin, facts, follow, frames, stop, told

PICTURE = {"prompt": "a red ring", "steps": 40}  # 0.8 s
WAITING = {"prompt": "a red circle"}
PAINTER = {"worker_module": "tests.chaos.painter"}


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    with running(tmp_path_factory.mktemp("painter"), **PAINTER, ping_s="0.3") as server:
        server.until_ready()
        yield server


@pytest.fixture
def waiting(web: Atelier) -> Iterator[tuple[str, str]]:
    """A run that waits for a worker that never comes: its id and its task's."""
    run_id, task_id = begin(web, WAITING)
    yield run_id, task_id
    stop(web, task_id)


def by_pieces(run_id: str, servers: list[Atelier], last_id: str = "0") -> list[Frame]:
    """The run's events, by a client whose line is cut after each, and who comes back, each time to the next server."""
    seen: list[Frame] = []
    while not seen or seen[-1].name != "workflow_finished":
        with follow(servers[len(seen) % len(servers)], run_id, last_id=last_id, key=servers[0].key) as answer:
            seen.append(next(facts(answer.iter_lines())))
            last_id = str(seen[-1].id)
    return seen


def all_of(server: Atelier, run_id: str, **query: Any) -> list[Frame]:
    with follow(server, run_id, after=0, **query) as answer:
        return list(facts(answer.iter_lines()))


def test_events_are_numbered_and_pings_and_progress_are_not(painter: Atelier) -> None:
    answer = painter.run(PICTURE, response_mode="streaming")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    seen = list(frames(answer.text.split("\n")))
    assert (seen[0].ping, seen[0].retry) == (True, "1000")
    numbered = [frame for frame in seen if frame.id]
    assert [frame.id for frame in numbered] == [str(i + 1) for i in range(len(numbered))]
    assert {frame.name for frame in seen if frame.id is None} == {None, "node_progress"}
    assert [frame.name for frame in seen].count("workflow_finished") == 1


def test_a_line_that_is_cut_after_every_event_loses_none_and_doubles_none(painter: Atelier) -> None:
    run_id, _ = begin(painter, PICTURE)
    seen = by_pieces(run_id, [painter])
    assert told(seen) == told(all_of(painter, run_id))
    assert [frame.id for frame in seen] == [str(i + 1) for i in range(len(seen))]


def test_the_same_with_two_servers_on_one_database(two_servers: list[Atelier]) -> None:
    one, two = two_servers
    run_id, _ = begin(two, PICTURE)
    seen = by_pieces(run_id, two_servers)
    assert told(seen) == told(all_of(one, run_id)) == told(all_of(two, run_id))


def test_a_long_poll_at_another_server_hears_of_the_end(two_servers: list[Atelier]) -> None:
    one, two = two_servers
    run_id, task_id = begin(one, {"prompt": "stall"})
    tag = poll(two, run_id).headers["etag"]
    assert poll(two, run_id, tag).status_code == 304
    timer = threading.Timer(0.1, stop, (one, task_id))
    timer.start()
    assert poll(two, run_id, tag, wait=60).json()["status"] == "stopped"
    timer.join()
    assert poll(two, run_id, poll(one, run_id).headers["etag"]).status_code == 304


def test_a_client_goes_on_after_a_restart_in_the_middle_of_its_run(tmp_path: Path) -> None:
    server = start(tmp_path, **PAINTER)
    server.until_ready()
    run_id, _ = begin(server, {"prompt": "hold on", "steps": 2})
    with follow(server, run_id, after=0) as answer:
        lines = frames(answer.iter_lines())
        before = [frame for frame in (next(lines) for _ in range(4)) if frame.id]
        server.process.terminate()
        rest = list(lines)
    before += [frame for frame in rest if frame.id]
    assert before[-1].name != "workflow_finished"
    assert 500 <= int(rest[-1].retry or 0) <= 1500
    assert server.stop() == 0
    (tmp_path / "release-on").touch()
    with running(tmp_path, **PAINTER) as again:
        after = by_pieces(run_id, [again], last_id=str(before[-1].id))
        assert told(before + after) == told(all_of(again, run_id))


def test_a_server_that_ends_waits_neither_for_streams_nor_for_long_polls(tmp_path: Path) -> None:
    server = start(tmp_path, worker="none", shutdown_grace_s="600")
    run_id, _ = begin(server, WAITING)
    tag = poll(server, run_id).headers["etag"]
    asked = f"GET /v1/workflows/run/{run_id}?wait=60 HTTP/1.1\r\nHost: x\r\nIf-None-Match: {tag}\r\n"
    url = httpx.URL(server.url)
    with (
        follow(server, run_id) as answer,
        follow(server, run_id, last_id="2") as other,
        socket.create_connection((url.host, url.port)) as poller,
    ):
        lines, others = frames(answer.iter_lines()), frames(other.iter_lines())
        assert next(lines).ping
        assert next(others).ping
        poller.sendall(f"{asked}Authorization: Bearer {server.key}\r\n\r\n".encode())
        for _ in range(2):  # what was asked before these has come to the server
            assert server.http.get("/livez").status_code == 200
        server.process.terminate()
        assert [frame.name for frame in (*lines, *others) if frame.name == "workflow_finished"] == []
        assert poller.recv(100).startswith(b"HTTP/1.1 304")
    assert server.stop() == 0


def test_fifty_listeners_of_a_run_are_told_the_same(painter: Atelier) -> None:
    run_id, _ = begin(painter, PICTURE)
    heard: list[list[tuple[str | None, str]]] = []

    def listen() -> None:
        with follow(painter, run_id, after=0) as answer:
            heard.append(told(facts(answer.iter_lines())))

    listeners = [threading.Thread(target=listen) for _ in range(50)]
    for each in listeners:
        each.start()
    for each in listeners:
        each.join()
    assert heard == [told(all_of(painter, run_id))] * 50


def test_a_run_under_way_is_followed_from_now_on(web: Atelier, waiting: tuple[str, str]) -> None:
    run_id, task_id = waiting
    with follow(web, run_id) as answer:
        lines = frames(answer.iter_lines())
        assert next(lines).ping
        stop(web, task_id)
        assert [frame.name for frame in lines] == ["workflow_finished"]


def test_a_snapshot_tells_how_a_run_stands_without_values_and_can_be_resumed_from(
    web: Atelier, waiting: tuple[str, str]
) -> None:
    run_id, task_id = waiting
    with follow(web, run_id, include_state_snapshot="true", continue_on_pause="true") as answer:
        lines = frames(answer.iter_lines())
        assert next(lines).ping
        shown = [next(lines) for _ in range(4)]
        assert [frame.name for frame in shown] == ["workflow_started", "node_started", "node_finished", "node_started"]
        start_node = (shown[2].event or {})["data"]
        assert (start_node["status"], start_node["outputs"], start_node["files"]) == ("succeeded", None, [])
        stop(web, task_id)
        assert [frame.name for frame in lines] == ["workflow_finished"]
    assert [frame.name for frame in by_pieces(run_id, [web], last_id=str(shown[-1].id))] == ["workflow_finished"]


def test_of_an_ended_run_there_is_the_end_alone_or_what_came_after_a_number(web: Atelier, echo_key: str) -> None:
    run_id = web.run({"text": "x"}, echo_key).json()["workflow_run_id"]
    with follow(web, run_id, key=echo_key) as answer:
        (end,) = facts(answer.iter_lines())
    assert (end.name, (end.event or {})["task_id"]) == ("workflow_finished", run_id)
    assert [frame.id for frame in all_of(web, run_id, key=echo_key)][-1] == end.id
    with follow(web, run_id, key=echo_key, last_id="7", after=1) as answer:
        assert [frame.id for frame in facts(answer.iter_lines())] == ["8", "9"]
    with follow(web, run_id, key=echo_key, last_id=end.id) as answer:
        assert (answer.status_code, answer.read()) == (204, b"")


@pytest.mark.parametrize(
    ("query", "header", "field"),
    [
        ({"after": "10"}, None, "after"),
        ({"after": "-1"}, None, "after"),
        ({"after": "soon"}, None, "after"),
        ({}, "10", "Last-Event-ID"),
        ({}, "1.5", "Last-Event-ID"),
        ({"include_state_snapshot": "perhaps"}, None, "include_state_snapshot"),
        ({"user": ""}, None, "user"),
    ],
)
def test_a_wrong_number_is_refused_by_name(
    web: Atelier, echo_key: str, query: dict[str, str], header: str | None, field: str
) -> None:
    run_id = web.run({"text": "x"}, echo_key).json()["workflow_run_id"]
    with follow(web, run_id, key=echo_key, last_id=header, **query) as answer:
        answer.read()
        assert (answer.status_code, answer.json()["code"], answer.json()["params"]) == (400, "invalid_param", field)


def test_a_run_is_followed_by_its_own_user_and_app_only(web: Atelier, echo_key: str) -> None:
    run_id = web.run({"text": "x"}, echo_key).json()["workflow_run_id"]
    for other in ({"user": "somebody", "key": echo_key}, {"key": web.key}):
        with follow(web, run_id, **other) as answer:
            answer.read()
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_a_silent_stream_pings(painter: Atelier) -> None:
    run_id, task_id = begin(painter, {"prompt": "stall"})
    with follow(painter, run_id) as answer:
        lines = frames(answer.iter_lines())
        assert [next(lines).ping for _ in range(3)] == [True] * 3
        stop(painter, task_id)
        assert [frame.name for frame in lines if not frame.ping] == ["workflow_finished"]


def test_a_listener_that_never_reads_loses_its_connection_and_costs_the_others_nothing(tmp_path: Path) -> None:
    with running(tmp_path, worker="none", slow_listener_s="1") as server:
        key = server.app_key(wordy_document(tmp_path))
        run_id, task_id = begin(server, {"prompt": "x", "note": "x" * 1_500_000}, key)
        before = memory_of(server)
        heard: list[list[str | None]] = []

        def listen() -> None:
            with follow(server, run_id, after=0, key=key) as answer:
                heard.append([frame.id for frame in facts(answer.iter_lines())])

        others = [threading.Thread(target=listen) for _ in range(3)]
        with deaf(server, run_id, key) as listener:
            for each in others:
                each.start()
            server.until("the deaf one is dropped", lambda: is_reset(listener))
        assert memory_of(server) - before < 100e6
        stop(server, task_id, key)
        for each in others:
            each.join()
        assert heard == [["1", "2", "3", "4", "5"]] * 3


def wordy_document(folder: Path) -> Path:
    """A workflow that takes a note as long as a request may be, and shows it in its events."""
    text = (ROOT / "workflows/text-to-image.yml").read_text()
    note = "- {variable: note, label: Note, type: paragraph, required: false}\n        "
    document = folder / "wordy.yml"
    document.write_text(text.replace("- variable: negative_prompt", note + "- variable: negative_prompt"))
    return document


def deaf(server: Atelier, run_id: str, key: str) -> socket.socket:
    """A listener that asks for every event and never reads."""
    url = httpx.URL(server.url)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.connect((url.host, url.port))
    head = f"GET /v1/workflow/{run_id}/events?user=abc-123&after=0 HTTP/1.1\r\nHost: x\r\n"
    listener.sendall(f"{head}Authorization: Bearer {key}\r\n\r\n".encode())
    return listener


def is_reset(listener: socket.socket) -> bool:
    return listener.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


def memory_of(server: Atelier) -> int:
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * 4096


def test_a_new_run_is_told_from_its_beginning_whatever_event_was_seen_last(painter: Atelier) -> None:
    """A client that comes back with the number of another run's event must not wait for events that have been."""
    body = {"inputs": {"prompt": "a red circle", "steps": 1}, "response_mode": "streaming", "user": "abc-123"}
    with painter.http.stream("POST", "/v1/workflows/run", json=body, headers={"last-event-id": "500"}) as stream:
        told = list(facts(stream.iter_lines()))
    assert (told[0].id, told[-1].name) == ("1", "workflow_finished")
