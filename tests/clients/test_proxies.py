"""Blocking calls that outlast every read timeout on their way: real clients, unchanged, through real nginx.

In each of them one run is made, and the caller gets its answer. All calls of a test wait at the same time: every client
asks through every proxy, and the pictures are painted when all have waited for long enough.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from dify_client import WorkflowClient
from dify_client.exceptions import APIError

from tests.clients.callers import CLIENTS, PATH, Answered, Call, missing
from tests.clients.proxies import OWN, VARIANTS, proxies
from tests.servers import Atelier, running

PAINTER = {"worker_module": "tests.chaos.painter"}
SILENCE_S = 3.0  # what nginx and the clients bear, where a minute is usual
BEAT_S = "1"


def user(variant: str, client: str) -> str:
    return f"{client} through {variant}"


def body(name: str, user: str = "abc-123", mode: str = "blocking") -> dict[str, Any]:
    """A request whose picture is painted when `release` has been called for the name."""
    return {"inputs": {"prompt": f"hold {name}", "steps": 1}, "response_mode": mode, "user": user}


def release(server: Atelier, name: str) -> None:
    (server.data_dir / f"release-{name}").touch()


def runs_of(server: Atelier, **filters: Any) -> list[str]:
    logs = server.http.get("/v1/workflows/logs", params={"limit": 100, **filters}).json()
    return [entry["workflow_run"]["id"] for entry in logs["data"]]


@dataclass
class Waited:
    """Every client's answer through every proxy."""

    server: Atelier
    urls: dict[str, str]
    answers: dict[tuple[str, str], Answered]

    def holds(self, variant: str, client: str) -> None:
        """One run, one answer, and a picture that can be fetched."""
        answered = self.answers[variant, client]
        assert answered.status == 200, answered.text
        told = json.loads(answered.text)
        assert told["data"]["status"] == "succeeded"
        assert runs_of(self.server, created_by_end_user_session_id=user(variant, client)) == [told["workflow_run_id"]]
        assert not answered.replayed, "the client's time limit was reached"
        picture = httpx.get(self.urls[variant] + told["data"]["outputs"]["files"][0]["url"])
        assert picture.status_code == 200
        assert picture.headers["content-type"] == "image/png"


def all_wait(server: Atelier, urls: dict[str, str], silence_s: float, held_s: float) -> Waited:
    """All clients ask through all proxies, and wait for `held_s` after the last of them has been accepted."""
    clients = [client for client in CLIENTS if not missing(client)]
    with ThreadPoolExecutor(len(clients)) as threads:
        asking = {
            client: threads.submit(
                CLIENTS[client],
                [Call(url, server.key, body("all", user(variant, client)), silence_s) for variant, url in urls.items()],
            )
            for client in clients
        }
        try:
            server.until("all are accepted", lambda: len(runs_of(server)) >= len(clients) * len(urls))
            time.sleep(held_s)
        finally:
            release(server, "all")
    answers = {}
    for client, answered in asking.items():
        answers.update({(variant, client): one for variant, one in zip(urls, answered.result(), strict=True)})
    return Waited(server, urls, answers)


@pytest.fixture(scope="module")
def waited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Waited]:
    folder = tmp_path_factory.mktemp("proxies")
    with (
        running(folder, blocking_beat_s=BEAT_S, **PAINTER) as server,
        proxies(folder, server, SILENCE_S) as urls,
    ):
        server.until_ready()
        yield all_wait(server, urls, SILENCE_S, SILENCE_S + 2)


def post(waited: Waited, variant: str, asked: dict[str, Any]) -> AbstractContextManager[httpx.Response]:
    """An answer of which only the head has come."""
    headers = waited.server.bearer(waited.server.key)
    return httpx.stream("POST", waited.urls[variant] + PATH, json=asked, headers=headers, timeout=30)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_call_outlasts_every_read_timeout(waited: Waited, variant: str, client: str) -> None:
    if reason := missing(client):
        pytest.skip(reason)
    waited.holds(variant, client)


@pytest.mark.parametrize("variant", VARIANTS)
def test_ids_pass_a_proxy_before_the_answer(waited: Waited, variant: str) -> None:
    name = f"ids-{list(VARIANTS).index(variant)}"
    with post(waited, variant, body(name)) as answer:
        run_id = answer.headers["x-workflow-run-id"]
        assert waited.server.detail(run_id)["status"] == "running"
        release(waited.server, name)
        assert json.loads(answer.read())["workflow_run_id"] == run_id


@pytest.mark.parametrize("variant", [OWN, "buffering on", "as it comes"])
def test_events_pass_a_proxy_as_they_happen(waited: Waited, variant: str) -> None:
    name = f"events-{list(VARIANTS).index(variant)}"
    with post(waited, variant, body(name, mode="streaming")) as answer:
        lines = answer.iter_lines()
        assert any("workflow_started" in line for line in lines), "it comes while the picture is held"
        release(waited.server, name)
        assert sum("workflow_finished" in line for line in lines) == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_true_minute(tmp_path: Path) -> None:
    """nginx and clients as people have them: 60 s of silence. Default settings; the picture takes 65 s."""
    variants = (OWN, "buffering on", "as it comes", "deaf")
    with running(tmp_path, **PAINTER) as server, proxies(tmp_path, server, 60.0, variants) as urls:
        server.until_ready()
        waited = all_wait(server, urls, 60.0, 65.0)
        for variant, client in waited.answers:
            waited.holds(variant, client)


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    """A server that sends nothing before the answer."""
    with running(tmp_path_factory.mktemp("silent"), blocking_beat_s="0", **PAINTER) as server:
        server.until_ready()
        yield server


@contextmanager
def sdk(server: Atelier, url: str, timeout_s: float) -> Iterator[tuple[WorkflowClient, list[httpx.Request]]]:
    """Dify's client, and what it has sent."""
    sent: list[httpx.Request] = []
    with WorkflowClient(server.key, base_url=f"{url}/v1", timeout=timeout_s) as client:
        client._client.event_hooks = {"request": [sent.append]}
        yield client, sent


def test_without_beats_a_client_that_posts_again_gets_the_one_run(silent: Atelier) -> None:
    asked = body("again")
    with sdk(silent, silent.url, 2.0) as (client, sent), ThreadPoolExecutor(1) as thread:
        asking = thread.submit(client.run, asked["inputs"], "blocking", asked["user"])
        silent.until("it has posted again", lambda: len(sent) == 2)
        release(silent, "again")
        answer = asking.result()
    assert answer.headers["idempotency-replayed"] == "true"
    assert answer.json()["data"]["status"] == "succeeded"
    assert runs_of(silent, keyword="hold again") == [answer.json()["workflow_run_id"]]


def test_without_beats_every_proxy_cuts_and_asking_again_gets_the_one_run(silent: Atelier, tmp_path: Path) -> None:
    def cut(variant: str, url: str) -> None:
        asked = body("cut", variant)
        with sdk(silent, url, 30.0) as (client, sent):
            with pytest.raises(APIError) as refused:
                client.run(asked["inputs"], "blocking", asked["user"])
            assert refused.value.status_code == (503 if variant == OWN else 504)
            if variant == OWN:
                assert refused.value.response["code"] == "service_unavailable"
                assert refused.value.response["status"] == 503
            assert len(sent) == 1, "it does not post again after an answer"
            cut_all.wait(30)
            answer = client.run(asked["inputs"], "blocking", asked["user"])
        assert answer.headers["idempotency-replayed"] == "true"
        assert runs_of(silent, created_by_end_user_session_id=variant) == [answer.json()["workflow_run_id"]]

    cut_all = threading.Barrier(len(VARIANTS), lambda: release(silent, "cut"))
    with proxies(tmp_path, silent, 2.0) as urls, ThreadPoolExecutor(len(urls)) as threads:
        list(threads.map(cut, urls, urls.values()))
