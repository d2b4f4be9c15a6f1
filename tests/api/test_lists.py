"""Lists of runs: the log with its filters, and pages by cursor that neither skip nor repeat while runs are added."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers import ROOT, Atelier, running
from tests.streams import begin, stop


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    url = "" if request.param == "sqlite" else request.getfixturevalue("postgres").new()
    folder = tmp_path_factory.mktemp("lists")
    with running(folder, env_too={"DATABASE_URL": url} if url else None, worker="none") as server:
        yield server


@pytest.fixture(scope="module")
def key(server: Atelier) -> str:
    return server.app_key(ROOT / "workflows/echo.yml")


def listed(server: Atelier, key: str | None = None, **query: Any) -> dict[str, Any]:
    answer = server.http.get("/v1/workflows/runs", params=query, headers=server.bearer(key or server.key))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ids(page: dict[str, Any]) -> list[str]:
    return [run["id"] for run in page["data"]]


def logged(server: Atelier, key: str, **query: Any) -> dict[str, Any]:
    answer = server.http.get("/v1/workflows/logs", params=query, headers=server.bearer(key))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_several_runs_are_read_at_once_and_those_of_others_are_not_there(server: Atelier, key: str) -> None:
    made = [server.run({"text": str(i)}, key).json()["workflow_run_id"] for i in range(3)]
    foreign, task_id = begin(server, {"prompt": "a red circle"})
    asked = ",".join([*made, foreign, "nothing", "00000000-0000-7000-8000-000000000000"])
    page = listed(server, key, ids=asked)
    assert ids(page) == made[::-1]
    detail = server.http.get(f"/v1/workflows/run/{made[0]}", headers=server.bearer(key)).json()
    assert page["data"][-1] == {**detail, "dialect": "dify"}
    assert (page["limit"], page["has_more"], page["next_cursor"]) == (20, False, None)
    assert ids(listed(server, ids=asked)) == [foreign]
    stop(server, task_id)


def test_pages_neither_skip_nor_repeat_while_runs_are_added(server: Atelier, key: str) -> None:
    there = [server.run({"text": str(i)}, key, user="pages").json()["workflow_run_id"] for i in range(7)]
    page = listed(server, key, user="pages", limit=2)
    seen = ids(page)
    while page["has_more"]:
        server.run({"text": "meanwhile"}, key, user="pages")
        page = listed(server, key, user="pages", limit=2, cursor=page["next_cursor"])
        seen += ids(page)
    assert seen == there[::-1]


def test_what_has_happened_since_is_found_whatever_it_was(server: Atelier) -> None:
    (early, early_task), (quiet, quiet_task) = (begin(server, {"prompt": "a red circle"}) for _ in range(2))
    time.sleep(0.01)
    since = time.time()
    stop(server, early_task)
    late, late_task = begin(server, {"prompt": "a red circle"})
    assert ids(listed(server, updated_after=since, status="stopped,running")) == [late, early]
    assert quiet in ids(listed(server, updated_after="2020-01-01"))
    assert ids(listed(server, updated_after=since, status="running")) == [late]
    assert ids(listed(server, updated_after=since + 3600)) == []
    for task_id in (quiet_task, late_task):
        stop(server, task_id)


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "101"},
        {"status": "succeeded,queued"},
        {"ids": ",".join(["x"] * 101)},
        {"cursor": "nonsense"},
        {"cursor": "W10"},
        {"updated_after": "soon"},
    ],
)
def test_a_wrong_value_is_refused_by_name(server: Atelier, query: dict[str, str]) -> None:
    answer = server.http.get("/v1/workflows/runs", params=query)
    assert (answer.status_code, answer.json()["params"]) == (400, next(iter(query)))


def test_the_log_filters_what_dify_filters_and_what_it_can_not(server: Atelier) -> None:
    key = server.app_key(ROOT / "workflows/echo.yml", "filtered")
    first = server.run({"text": 'she said "Yes" at 100%'}, key, user="Eve").json()["workflow_run_id"]
    second = server.run({"text": "no"}, key, user="adam").json()["workflow_run_id"]

    def found(**query: Any) -> list[str]:
        return [entry["workflow_run"]["id"] for entry in logged(server, key, **query)["data"]]

    assert found() == [second, first]
    assert found(keyword='"yes"') == found(keyword="100%") == found(keyword="eVE") == [first]
    assert found(keyword=second) == found(keyword=second.upper()) == [second]
    assert found(keyword="x" * 40) == []
    assert found(created_by_end_user_session_id="Eve") == [first]
    assert found(status="succeeded,partial-succeeded") == [second, first]
    assert found(status="running") == found(status="failed") == found(status="stopped") == []
    assert found(created_at__after="2020-01-01T00:00:00Z", created_at__before="2120-01-01") == [second, first]
    assert found(created_at__before="2020-01-01T00:00:00+02:00") == []
    assert logged(server, key, page=2, limit=1)["has_more"] is False


def test_runs_tell_the_dialect_in_which_they_were_asked_for(server: Atelier, key: str) -> None:
    run_id = server.run({"text": "a"}, key).json()["workflow_run_id"]
    (entry,), (log_entry,) = listed(server, key, ids=run_id)["data"], logged(server, key, limit=1)["data"]
    task = server.http.get(f"/v1/workflows/run/{run_id}?include=task", headers=server.bearer(key)).json()["task"]
    assert entry["dialect"] == log_entry["dialect"] == task["dialect"] == "dify"
    (shown,) = [line.split() for line in server.cli("top", "--once").splitlines() if line.startswith(run_id)]
    assert shown[1:4] == ["echo", "dify", "succeeded"]


def test_the_log_shows_runs_under_way(server: Atelier) -> None:
    run_id, task_id = begin(server, {"prompt": "a red circle"})
    entries = logged(server, server.key, status="running")["data"]
    assert [entry["workflow_run"]["id"] for entry in entries] == [run_id]
    stop(server, task_id)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"created_by_account": "eve@example.com"}, "Account not found: eve@example.com"),
        ({"status": "queued"}, "status must be one of"),
        ({"created_at__before": "soon"}, "ISO 8601"),
        ({"page": "0"}, "page"),
        ({"limit": "many"}, "limit"),
    ],
)
def test_a_wrong_filter_of_the_log_is_refused(server: Atelier, query: dict[str, str], says: str) -> None:
    answer = server.http.get("/v1/workflows/logs", params=query)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_param")
    assert says in answer.json()["message"]


def test_a_cursor_with_a_character_that_no_database_stores_is_no_error(server: Atelier) -> None:
    cursor = base64.urlsafe_b64encode(b'[1.5, "a\\u0000b"]').decode()
    assert listed(server, cursor=cursor)["data"] == []
