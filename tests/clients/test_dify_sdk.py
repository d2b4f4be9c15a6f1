"""Dify's own Python client against a real server, unchanged."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dify_client import WorkflowClient
from dify_client.exceptions import AuthenticationError

from tests.servers import Atelier


@pytest.fixture
def client(web: Atelier, echo_key: str) -> Iterator[WorkflowClient]:
    with WorkflowClient(echo_key, base_url=f"{web.url}/v1") as client:
        yield client


def test_a_blocking_run(client: WorkflowClient) -> None:
    answer = client.run({"text": "hello"}, response_mode="blocking", user="abc-123")
    assert answer.json()["data"]["outputs"] == {"text": "hello"}


def test_a_streamed_run_and_its_result(client: WorkflowClient) -> None:
    answer = client.run({"text": "hello"}, response_mode="streaming", user="abc-123")
    assert '"event":"workflow_finished"' in answer.text
    result = client.get_result(answer.headers["x-workflow-run-id"])
    assert result.json()["status"] == "succeeded"


def test_stop_and_logs(client: WorkflowClient) -> None:
    task_id = client.run({"text": "x"}, response_mode="blocking", user="u").json()["task_id"]
    assert client.stop(task_id, "u").json()["result"] == "success"
    assert client.get_workflow_logs(limit=1).json()["limit"] == 1


def test_a_wrong_key_is_an_authentication_error(web: Atelier) -> None:
    stranger = WorkflowClient("app-000000000000000000000000", base_url=f"{web.url}/v1")
    with stranger, pytest.raises(AuthenticationError):
        stranger.run({"text": "x"}, response_mode="blocking", user="u")
