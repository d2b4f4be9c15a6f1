"""One request is one run, over several API processes on one database, whatever becomes of them meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.chaos.harness import Arena, arena
from tests.clusters import until

pytestmark = pytest.mark.slow

RUN = "/v1/workflows/run"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with arena(tmp_path_factory.mktemp("calls"), "--api", "4", "--workers", "1") as ready:
        yield ready


@pytest.fixture(autouse=True)
def whole(house: Arena) -> Iterator[None]:
    house.until_workers_are_up()
    yield
    house.check()


def body(name: str, mode: str = "blocking") -> dict[str, Any]:
    return {"inputs": {"prompt": f"hold {name}", "steps": 1}, "response_mode": mode, "user": "abc-123"}


def release(house: Arena, name: str) -> None:
    (house.cluster.folder / "data" / f"release-{name}").touch()


def post(house: Arena, asked: dict[str, Any], api: str | None = None, key: str | None = None) -> httpx.Response:
    url = f"http://127.0.0.1:{house.port_of(api)}" if api else house.cluster.url
    headers = {"Authorization": f"Bearer {house.key}", **({"Idempotency-Key": key} if key else {})}
    return httpx.post(f"{url}{RUN}", json=asked, headers=headers, timeout=30)


@contextmanager
def waiting(house: Arena, asked: dict[str, Any], api: str) -> Iterator[httpx.Response]:
    """A blocking call that has got its headers."""
    url = f"http://127.0.0.1:{house.port_of(api)}{RUN}"
    headers = {"Authorization": f"Bearer {house.key}"}
    with httpx.stream("POST", url, json=asked, headers=headers, timeout=30) as answer:
        yield answer


def made_for(house: Arena, name: str) -> list[str]:
    return [row[0] for row in house.rows("SELECT id FROM runs WHERE inputs LIKE %s", f"%hold {name}%")]


def test_a_hundred_posts_over_four_processes_are_one_run(house: Arena) -> None:
    apis = [f"api-{n % 4 + 1}" for n in range(100)]
    with ThreadPoolExecutor(50) as callers:
        answers = list(callers.map(lambda api: post(house, body("many", "async"), api, "many"), apis))
    assert {answer.status_code for answer in answers} == {202}
    (run_id,) = {answer.json()["id"] for answer in answers}
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert made_for(house, "many") == [run_id]
    release(house, "many")


def test_a_key_outlives_its_process(house: Arena) -> None:
    release(house, "outlives")
    first = post(house, body("outlives"), "api-1", "outlives")
    house.cluster.until_replaced("api-1", house.cluster.kill("api-1"))
    house.cluster.until_answers_itself("api-1")
    again = post(house, body("outlives"), "api-1", "outlives")
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["workflow_run_id"] == first.json()["workflow_run_id"]
    assert again.json()["data"]["status"] == "succeeded"


def test_a_call_that_broke_comes_again_at_another_process(house: Arena) -> None:
    with waiting(house, body("moved"), "api-1") as broken:
        run_id = broken.headers["x-workflow-run-id"]
    with waiting(house, body("moved"), "api-2") as answer:
        assert answer.headers["x-workflow-run-id"] == run_id
        release(house, "moved")
        assert json.loads(answer.read())["data"]["status"] == "succeeded"
    assert made_for(house, "moved") == [run_id]


def test_a_call_whose_process_was_killed_comes_again_at_once(house: Arena) -> None:
    with waiting(house, body("died"), "api-3") as broken:
        run_id = broken.headers["x-workflow-run-id"]
        house.cluster.kill("api-3")
        with pytest.raises(httpx.RemoteProtocolError):
            broken.read()
    with waiting(house, body("died"), "api-4") as answer:
        assert answer.headers["x-workflow-run-id"] == run_id
        release(house, "died")
        assert json.loads(answer.read())["data"]["status"] == "succeeded"
    assert made_for(house, "died") == [run_id]


def test_calls_that_wait_at_several_processes_are_never_merged(house: Arena) -> None:
    with ThreadPoolExecutor(4) as callers:
        answers = [callers.submit(post, house, body("alive"), f"api-{n + 1}") for n in range(4)]
        until("four runs", lambda: len(made_for(house, "alive")) == 4)
        release(house, "alive")
        assert len({answer.result().json()["workflow_run_id"] for answer in answers}) == 4


def test_a_call_at_a_frozen_process_is_not_taken_for_broken(house: Arena) -> None:
    """It may go on; its connection lives."""
    asked = body("frozen")
    with (
        waiting(house, asked, "api-1") as first,
        house.frozen("api-1"),
        waiting(house, asked, "api-2") as second,
    ):
        assert second.headers["x-workflow-run-id"] != first.headers["x-workflow-run-id"]
        release(house, "frozen")
        second.read()
