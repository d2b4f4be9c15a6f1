"""Dify's own Python clients against a real server, unchanged: every call that they have for workflows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from dify_client import AsyncWorkflowClient, WorkflowClient
from dify_client.exceptions import (
    APIError,
    AuthenticationError,
    FileUploadError,
    RateLimitError,
    ValidationError,
)

from tests import media
from tests.clients.callers import missing, old_client_parameters, old_client_upload
from tests.servers import Atelier
from tests.unit.drawing import draw, end, field, start

UNKNOWN = "01a1fd65-0000-7000-8000-000000000000"


@pytest.fixture
def client(web: Atelier, echo_key: str) -> Iterator[WorkflowClient]:
    with WorkflowClient(echo_key, base_url=f"{web.url}/v1") as client:
        yield client


@pytest.fixture
def painter(web: Atelier) -> Iterator[WorkflowClient]:
    """A client of the app that makes pictures, on a server that has no worker: its runs wait."""
    with WorkflowClient(web.key, base_url=f"{web.url}/v1") as client:
        yield client


def events_of(answer: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data: ")]


def entries(client: WorkflowClient, **filters: Any) -> list[dict[str, Any]]:
    return [entry["workflow_run"] for entry in client.get_workflow_logs(**filters).json()["data"]]


def test_a_blocking_run(client: WorkflowClient) -> None:
    answer = client.run({"text": "hello"}, response_mode="blocking", user="abc-123")
    assert answer.json()["data"]["outputs"] == {"text": "hello"}


def test_a_streamed_run_and_its_result(client: WorkflowClient) -> None:
    answer = client.run({"text": "hello"}, response_mode="streaming", user="abc-123")
    events = events_of(answer)
    assert [events[0]["event"], events[-1]["event"]] == ["workflow_started", "workflow_finished"]
    assert {event["workflow_run_id"] for event in events} == {answer.headers["x-workflow-run-id"]}
    result = client.get_result(answer.headers["x-workflow-run-id"])
    assert result.json()["status"] == "succeeded"


def test_an_asynchronous_run_and_its_result(client: WorkflowClient) -> None:
    answer = client.run({"text": "hello"}, response_mode="async", user="abc-123")
    assert answer.status_code == 202
    result = client.get_result(answer.json()["id"]).json()
    assert json.loads(result["inputs"])["text"] == "hello"
    assert result["outputs"] == {"text": "hello"}


def test_a_run_that_is_stopped(painter: WorkflowClient) -> None:
    asked = painter.run({"prompt": "stop"}, response_mode="async", user="abc-123").json()
    assert painter.get_result(asked["id"]).json()["status"] == "running"
    for _ in range(2):
        assert painter.stop(asked["task_id"], "abc-123").json()["result"] == "success"
    assert painter.get_result(asked["id"]).json()["status"] == "stopped"


def test_logs_by_every_filter(painter: WorkflowClient) -> None:
    user, began = "who filters", int(time.time())
    mine = [painter.run({"prompt": f"filter {i}"}, response_mode="async", user=user).json() for i in range(3)]
    painter.stop(mine[0]["task_id"], user)
    ids = [asked["id"] for asked in reversed(mine)]
    of_user = {"created_by_end_user_session_id": user}
    assert [run["id"] for run in entries(painter, **of_user)] == ids
    assert [run["id"] for run in entries(painter, status="stopped", **of_user)] == [mine[0]["id"]]
    assert [run["id"] for run in entries(painter, keyword="filter 1", **of_user)] == [mine[1]["id"]]
    assert [run["id"] for run in entries(painter, keyword=mine[2]["id"])] == [mine[2]["id"]]
    assert [run["id"] for run in entries(painter, page=2, limit=2, **of_user)] == ids[2:]
    long_ago, soon = "2020-01-01T00:00:00Z", "2120-01-01T00:00:00Z"
    assert entries(painter, created_at__before=long_ago, **of_user) == []
    assert len(entries(painter, created_at__after=long_ago, created_at__before=soon, **of_user)) == 3
    assert all(run["created_at"] >= began for run in entries(painter, **of_user))


def test_the_app_of_a_key(client: WorkflowClient) -> None:
    assert client.get_app_info().json()["mode"] == "workflow"
    assert client.get_application_parameters("abc-123").json()["user_input_form"]


def test_a_version_by_its_id(client: WorkflowClient) -> None:
    version = client.run({"text": "hello"}, response_mode="blocking", user="abc-123").json()["data"]["workflow_id"]
    answer = client.run_specific_workflow(version, {"text": "again"}, "blocking", "abc-123")
    assert answer.json()["data"]["outputs"] == {"text": "again"}
    assert events_of(client.run_specific_workflow(version, {"text": "x"}))[-1]["event"] == "workflow_finished"


def test_how_the_app_of_a_key_looks(client: WorkflowClient) -> None:
    assert client.get_app_site_info().json()["title"]
    assert client.get_meta("abc-123").json() == {"tool_icons": {}}


def test_an_app_without_speech(client: WorkflowClient) -> None:
    with pytest.raises(APIError, match="TTS is not enabled") as refused:
        client.text_to_audio("hello", "abc-123")
    assert refused.value.status_code == 400


async def test_the_asynchronous_client(web: Atelier, echo_key: str) -> None:
    async with AsyncWorkflowClient(echo_key, base_url=f"{web.url}/v1") as client:
        answer = await client.run({"text": "hello"}, response_mode="blocking", user="abc-123")
        assert answer.json()["data"]["outputs"] == {"text": "hello"}
        result = await client.get_result(answer.json()["workflow_run_id"])
        assert result.json()["status"] == "succeeded"


def test_a_wrong_key_is_an_authentication_error(web: Atelier) -> None:
    stranger = WorkflowClient("app-000000000000000000000000", base_url=f"{web.url}/v1")
    with stranger, pytest.raises(AuthenticationError):
        stranger.run({"text": "x"}, response_mode="blocking", user="u")


@pytest.mark.parametrize("mode", ["blocking", "streaming", "async"])
def test_wrong_inputs_are_an_error_that_names_them(painter: WorkflowClient, mode: str) -> None:
    with pytest.raises(APIError) as refused:
        painter.run({"prompt": "x", "width": 7}, response_mode=mode, user="u")
    assert refused.value.status_code == 400
    assert refused.value.response["code"] == "invalid_param"
    assert "width" in refused.value.message


def test_a_key_of_another_body_is_a_validation_error(painter: WorkflowClient) -> None:
    """The client has no way to set the header; whoever wants it sets it on the client's own client."""
    painter._client.headers["Idempotency-Key"] = "of-the-sdk"
    first = painter.run({"prompt": "one"}, response_mode="async", user="u").json()
    again = painter.run({"prompt": "one"}, response_mode="async", user="u")
    assert again.json()["id"] == first["id"]
    with pytest.raises(ValidationError) as refused:
        painter.run({"prompt": "two"}, response_mode="async", user="u")
    assert refused.value.status_code == 422
    assert refused.value.response["code"] == "idempotency_conflict"


def test_one_run_too_many_is_a_rate_limit_error_that_says_when_to_come_again(web: Atelier) -> None:
    key = web.cli("keys", "create", "--max-queued", "1")
    with WorkflowClient(key, base_url=f"{web.url}/v1") as client:
        first = client.run({"prompt": "one"}, response_mode="async", user="u").json()
        for mode in ("blocking", "streaming", "async"):
            with pytest.raises(RateLimitError) as refused:
                client.run({"prompt": "two"}, response_mode=mode, user="u")
            assert int(refused.value.retry_after) > 0
        client.stop(first["task_id"], "u")
        assert client.run({"prompt": "two"}, response_mode="async", user="u").status_code == 202


def test_what_is_not_there_is_an_error_of_404(client: WorkflowClient) -> None:
    asked = [
        lambda: client.get_result(UNKNOWN),
        lambda: client.stop(UNKNOWN, "u"),
        lambda: client.run_specific_workflow(UNKNOWN, {"text": "x"}, "blocking", "u"),
        lambda: client.get_workflow_draft(UNKNOWN),
    ]
    for ask in asked:
        with pytest.raises(APIError) as refused:
            ask()
        assert refused.value.status_code == 404
        assert refused.value.response["code"] == "not_found"


def test_a_run_of_another_app_is_not_there(client: WorkflowClient, painter: WorkflowClient) -> None:
    asked = painter.run({"prompt": "mine"}, response_mode="async", user="u").json()
    for ask in (lambda: client.get_result(asked["id"]), lambda: client.stop(asked["task_id"], "u")):
        with pytest.raises(APIError) as refused:
            ask()
        assert refused.value.status_code == 404


def test_the_older_client_reads_the_parameters(web: Atelier) -> None:
    if reason := missing("dify-client"):
        pytest.skip(reason)
    answered = old_client_parameters(web.url, web.key)
    assert answered.status == 200, answered.text
    names = [next(iter(field.values()))["variable"] for field in json.loads(answered.text)["user_input_form"]]
    assert "prompt" in names


@pytest.fixture(scope="module")
def pictures(web: Atelier) -> str:
    """A key of an app that gives back the picture that it is given."""
    document = web.data_dir / "pictures.yml"
    document.write_text(draw([start(field("picture", "file")), end(picture=["start", "picture"])], ["start > end"]))
    return web.app_key(document)


def picture(file: dict[str, Any]) -> dict[str, Any]:
    return {"picture": {"type": "image", "transfer_method": "local_file", "upload_file_id": file["id"]}}


def test_a_file_is_uploaded_used_and_read_again(web: Atelier, pictures: str) -> None:
    content = media.picture()
    with WorkflowClient(pictures, base_url=f"{web.url}/v1") as client:
        file = client.file_upload("abc-123", {"file": ("cat.png", content, "image/png")}).json()
        run = client.run(picture(file), response_mode="blocking", user="abc-123").json()["data"]
        assert run["outputs"]["picture"]["related_id"] == file["id"]
        assert client.get_file_preview(file["id"]).content == content
        with pytest.raises(FileUploadError) as refused:
            client.file_upload("abc-123", {"other": ("cat.png", content, "image/png")})
        assert refused.value.response["code"] == "no_file_uploaded"


def test_the_older_client_uploads_a_file(web: Atelier, pictures: str, tmp_path: Path) -> None:
    if reason := missing("dify-client"):
        pytest.skip(reason)
    path = tmp_path / "cat.png"
    path.write_bytes(media.picture())
    answered = old_client_upload(web.url, pictures, path, "image/png")
    assert answered.status == 201, answered.text
    run = web.run(picture(json.loads(answered.text)), pictures).json()["data"]
    assert run["outputs"]["picture"]["filename"] == "cat.png"
