"""With `public_base_url`, whatever the server says can be followed from where its callers are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import httpx
import pytest

from app.cluster.daemon import free_port
from app.settings import load_settings
from tests.api import test_pictures
from tests.api.test_runs import events
from tests.servers import Atelier, running

PAINTER = "tests.chaos.painter"
EVERYTHING = "steps,artifacts,timings,progress,task"
INPUTS = {"prompt": "a red circle", "steps": 3, "n": 2, "seed": 1}
# A path of ours, wherever it stands: in a value, in JSON inside of a string, in Markdown.
OUR_PATH = re.compile(r"[^\s\"'()<>\\]*/(?:files/tools|v1/files|v1/workflows?)/[^\s\"'()<>\\]+")
ANY_URL = re.compile(r"\w+://[^\s\"'()<>\\]+")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    """It listens on 127.0.0.1, which none of its callers is to hear of: they know it as `localhost`."""
    port = free_port()
    settings = {"port": str(port), "public_base_url": f"http://localhost:{port}/", "worker_module": PAINTER}
    with running(tmp_path_factory.mktemp("public"), **settings) as server:
        server.until_ready()
        yield server


@pytest.fixture(scope="module")
def base(server: Atelier) -> str:
    return server.env["ATELIER_PUBLIC_BASE_URL"].rstrip("/")


def strings(value: Any) -> Iterable[str]:
    """Every string in a decoded answer."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def test_every_url_in_every_answer_and_event_begins_with_it_and_fetches(server: Atelier, base: str) -> None:
    blocking = server.run(INPUTS)
    stream = server.run(INPUTS, response_mode="streaming")
    run_id, task_id = blocking.headers["x-workflow-run-id"], blocking.headers["x-task-id"]
    detail = f"/v1/workflows/run/{run_id}"
    asked = [detail, f"{detail}?include={EVERYTHING}", "/v1/workflows/logs", "/v1/info", "/v1/parameters"]
    answers = [blocking, *(server.http.get(path) for path in asked)]
    answers.append(server.http.post(f"/v1/workflows/tasks/{task_id}/stop", json={"user": "abc-123"}))
    artifacts = answers[2].json()["artifacts"]
    answers.append(server.http.get(httpx.URL(artifacts[0]["permalink"]).path))
    answers.append(server.run(INPUTS, response_mode="async"))
    said = [text for answer in answers if answer.content for text in strings(answer.json())]
    said += [text for event in events(stream.text) for text in strings(event)]
    said += [value for answer in [*answers, stream] for value in answer.headers.values()]
    assert any("![" in text for text in said), "no Markdown was said"

    found = {url for text in said for pattern in (OUR_PATH, ANY_URL) for url in pattern.findall(text)}
    assert [url for url in found if not url.startswith(f"{base}/")] == []
    assert not any("127.0.0.1" in text or "0.0.0.0" in text for text in said)
    assert f"{base}/v1/workflows/run/{answers[-1].json()['id']}" == answers[-1].headers["location"]
    pictures = {httpx.URL(url).path for url in found if "/files/tools/" in url}
    assert len(pictures) == 4, "two runs with two pictures each"
    for url in found:
        answer = httpx.get(url, headers=server.bearer(server.key), follow_redirects=True)
        assert answer.status_code == 200, url
        assert answer.content[:4] == b"\x89PNG" or "/v1/workflows/" in url


def test_after_a_url_has_expired_the_run_and_the_permalink_give_ones_that_work(server: Atelier, base: str) -> None:
    run_id = server.run(INPUTS).headers["x-workflow-run-id"]
    include = {"include": "artifacts"}
    made = server.http.get(f"/v1/workflows/run/{run_id}", params=include).json()["artifacts"][0]
    long_ago = made["expires_at"] - 2 * 300 - 1
    expired = test_pictures.TestSignedUrls.signed(server, made["id"], long_ago)
    assert httpx.get(f"{base}{expired}").status_code == 403
    again = server.http.get(f"/v1/workflows/run/{run_id}", params=include).json()
    urls = [again["artifacts"][0]["url"], again["outputs"]["files"][0]["url"]]
    for url in urls:
        assert httpx.get(url).status_code == 200
    fetched = httpx.get(made["permalink"], headers=server.bearer(server.key), follow_redirects=True)
    assert json.loads(httpx.get(urls[0]).headers["etag"]) == made["sha256"]
    assert fetched.content[:4] == b"\x89PNG"


def test_its_name_of_before_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATELIER_PUBLIC_BASE_URL", raising=False)
    monkeypatch.setenv("ATELIER_PUBLIC_URL", "https://old.example.com/")
    assert load_settings().public_base_url == "https://old.example.com"
    monkeypatch.setenv("ATELIER_PUBLIC_BASE_URL", "https://new.example.com")
    assert load_settings().public_base_url == "https://new.example.com"
