"""Polling a run: no news is a 304 that costs no query, and who likes may wait for news."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.test_metrics import value
from tests.servers import Atelier, running
from tests.streams import begin, stop

WAITING = {"prompt": "a red circle"}


@pytest.fixture
def waiting(web: Atelier) -> Iterator[tuple[str, str]]:
    """A run that waits for a worker that never comes: its id and its task's."""
    run_id, task_id = begin(web, WAITING)
    yield run_id, task_id
    stop(web, task_id)


def poll(server: Atelier, run_id: str, tag: str | None = None, key: str | None = None, **query: Any) -> httpx.Response:
    headers = server.bearer(key or server.key) | ({"If-None-Match": tag} if tag else {})
    return server.http.get(f"/v1/workflows/run/{run_id}", params=query, headers=headers)


def test_no_news_is_a_304_without_a_body(web: Atelier, waiting: tuple[str, str]) -> None:
    run_id, task_id = waiting
    tag = poll(web, run_id).headers["etag"]
    assert tag.startswith('W/"')
    for known in (tag, f'"another", {tag}', tag.removeprefix("W/"), "*"):
        answer = poll(web, run_id, known)
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
        assert "content-length" not in answer.headers
    stop(web, task_id)
    news = poll(web, run_id, tag)
    assert (news.status_code, news.json()["status"]) == (200, "stopped")
    assert poll(web, run_id, news.headers["etag"]).status_code == 304


def test_no_news_costs_no_query(web: Atelier, echo_key: str, waiting: tuple[str, str]) -> None:
    ended = web.run({"text": "x"}, echo_key).json()["workflow_run_id"]
    for run_id, key in ((waiting[0], web.key), (ended, echo_key)):
        tag = poll(web, run_id, key=key).headers["etag"]
        before, began_s = value(web, "atelier_reads_total") or 0, time.monotonic()
        assert {poll(web, run_id, tag, key).status_code for _ in range(300)} == {304}
        reads = (value(web, "atelier_reads_total") or 0) - before
        # The server's own upkeep reads some twenty times a second, however slow the machine is.
        assert reads < 30 + 25 * (time.monotonic() - began_s)


def test_a_tag_opens_nothing(web: Atelier, echo_key: str, waiting: tuple[str, str]) -> None:
    run_id, _ = waiting
    tag = poll(web, run_id).headers["etag"]
    assert poll(web, run_id, tag).status_code == 304
    assert poll(web, run_id, tag, echo_key).status_code == 404
    assert poll(web, run_id, tag, "app-" + "x" * 24).status_code == 401
    assert poll(web, "00000000-0000-7000-8000-000000000000", "*").status_code == 404


def test_a_revoked_key_gets_no_304(web: Atelier, waiting: tuple[str, str]) -> None:
    admin = web.bearer(web.cli("keys", "create", "--name", "polls", "--scope", "all"))
    made = web.http.post("/v1/keys", json={"name": "poller"}, headers=admin).json()
    tag = poll(web, waiting[0], key=made["token"]).headers["etag"]
    assert poll(web, waiting[0], tag, made["token"]).status_code == 304
    assert web.http.delete(f"/v1/keys/{made['id']}", headers=admin).status_code == 200
    assert poll(web, waiting[0], tag, made["token"]).status_code == 401


def test_who_includes_more_has_a_tag_of_their_own_that_lives_for_a_second(
    web: Atelier, waiting: tuple[str, str]
) -> None:
    run_id, _ = waiting
    plain, more = poll(web, run_id).headers["etag"], poll(web, run_id, include="progress").headers["etag"]
    assert plain != more
    web.until("it is asked for anew", lambda: poll(web, run_id, more, include="progress").status_code == 200)
    assert poll(web, run_id, plain).status_code == 304


def test_file_urls_are_signed_anew_before_they_die(tmp_path: Path) -> None:
    with running(tmp_path, worker_module="tests.chaos.painter", files_access_timeout_s="4") as server:
        server.until_ready()
        run_id = server.run({"prompt": "a red ring", "steps": 1}).json()["workflow_run_id"]
        first = poll(server, run_id)
        again = lambda: (new := poll(server, run_id, first.headers["etag"])).status_code == 200 and new  # noqa: E731
        second = server.until("there is another URL", again)
        urls = [answer.json()["outputs"]["files"][0]["url"] for answer in (first, second)]
        assert urls[0] != urls[1]
        assert server.http.get(urls[1]).status_code == 200


def test_a_long_poll_is_answered_when_the_run_moves(web: Atelier, waiting: tuple[str, str]) -> None:
    run_id, task_id = waiting
    tag = poll(web, run_id).headers["etag"]
    answers: list[httpx.Response] = []
    asked = [
        threading.Thread(target=lambda known=known: answers.append(poll(web, run_id, known, wait=60)))
        for known in (tag, None)
    ]
    for each in asked:
        each.start()
    web.until("both wait", lambda: len(answers) == 0 and sum(each.is_alive() for each in asked) == 2)
    stop(web, task_id)
    for each in asked:
        each.join()
    assert [(answer.status_code, answer.json()["status"]) for answer in answers] == [(200, "stopped")] * 2


def test_a_long_poll_without_news_ends_in_time(web: Atelier, waiting: tuple[str, str]) -> None:
    run_id, _ = waiting
    began_s = time.monotonic()
    tag = poll(web, run_id, wait=0.2).headers["etag"]
    assert poll(web, run_id, tag, wait="0.2").status_code == 304
    assert time.monotonic() - began_s >= 0.4
    assert poll(web, run_id, "another", wait=60).status_code == 200
    for wrong in ("61", "-1", "soon"):
        assert poll(web, run_id, wait=wrong).json()["params"] == "wait"
