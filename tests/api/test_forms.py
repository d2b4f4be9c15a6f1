"""Runs that wait for a person: the pause, the form, and how it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ROOT, Atelier, running, start
from tests.streams import facts, follow

DOCUMENT = ROOT / "tests" / "documents" / "approval.yml"
FORM = "/v1/form/human_input"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    with running(tmp_path_factory.mktemp("forms"), worker="none", reaper_beat_s="0.2") as server:
        yield server


@pytest.fixture(scope="module")
def key(house: Atelier) -> str:
    return patient(house)


def patient(house: Atelier) -> str:
    """The document with more time for its form than any test takes."""
    document = house.data_dir / "patient.yml"
    document.write_text(DOCUMENT.read_text().replace("timeout: 0.0006", "timeout: 2"))
    return house.app_key(document)


def paused(house: Atelier, key: str) -> dict[str, Any]:
    answer = house.run({"topic": "cats"}, key)
    assert answer.status_code == 200
    assert answer.json()["data"]["status"] == "paused", answer.text
    return dict(answer.json())


def token_of(run: dict[str, Any]) -> str:
    return str(run["data"]["reasons"][0]["form_token"])


def send(house: Atelier, key: str, token: str, action: str = "approve", **inputs: Any) -> Any:
    body = {"inputs": {"comment": "Fine.", "tone": "warm"} | inputs, "action": action, "user": "editor"}
    return house.http.post(f"{FORM}/{token}", json=body, headers=house.bearer(key))


def ended(house: Atelier, key: str, run_id: str) -> dict[str, Any]:
    def run() -> dict[str, Any] | None:
        found = house.http.get(f"/v1/workflows/run/{run_id}", headers=house.bearer(key)).json()
        return None if found["status"] in ("running", "paused") else found

    return dict(house.until("the run has ended", run))


def test_a_blocking_call_is_told_what_the_run_waits_for(house: Atelier, key: str) -> None:
    run = paused(house, key)
    (reason,) = run["data"]["reasons"]
    assert list(run["data"])[-2:] == ["paused_nodes", "reasons"]
    assert (run["data"]["paused_nodes"], run["data"]["outputs"], run["data"]["finished_at"]) == (["ask"], {}, None)
    assert (reason["TYPE"], reason["node_title"]) == ("human_input_required", "Ask the editor")
    assert reason["resolved_default_values"] == {"comment": "About cats.", "tone": "dry"}
    form = house.http.get(f"{FORM}/{reason['form_token']}", headers=house.bearer(key)).json()
    assert list(form) == ["form_content", "inputs", "resolved_default_values", "user_actions", "expiration_time"]
    assert form["form_content"].startswith("# Draft\n\nAbout cats.\n\nComment: {{#$output.comment#}}")
    assert form["inputs"][1]["options"] == ["dry", "warm"]
    assert [action["id"] for action in form["user_actions"]] == ["approve", "reject"]


def test_a_filled_form_takes_the_run_on_by_its_action(house: Atelier, key: str) -> None:
    run = paused(house, key)
    assert send(house, key, token_of(run)).json() == {}
    done = ended(house, key, run["workflow_run_id"])
    assert (done["status"], done["total_steps"]) == ("succeeded", 4)
    assert done["outputs"] == {
        "verdict": "Approve",
        "comment": "Fine.",
        "read": "# Draft\n\nAbout cats.\n\nComment: Fine.\nTone: warm",
    }
    run = paused(house, key)
    send(house, key, token_of(run), "reject", comment="Too short")
    assert ended(house, key, run["workflow_run_id"])["outputs"] == {"rejected_because": "Too short"}


def test_a_stream_ends_with_the_pause_and_another_goes_on_from_there(house: Atelier, key: str) -> None:
    body = {"inputs": {"topic": "cats"}, "response_mode": "streaming", "user": "abc-123"}
    with house.http.stream("POST", "/v1/workflows/run", json=body, headers=house.bearer(key)) as stream:
        first = list(facts(stream.iter_lines()))
    assert [frame.name for frame in first][-3:] == ["node_started", "human_input_required", "workflow_paused"]
    paused_at = first[-1].event
    assert paused_at
    assert paused_at["data"]["reasons"][0]["form_token"] == first[-2].event["data"]["form_token"]
    run_id = paused_at["workflow_run_id"]
    with follow(house, run_id, key=key, last_id=first[-1].id) as stream:
        send(house, key, first[-2].event["data"]["form_token"])  # type: ignore[index]
        rest = list(facts(stream.iter_lines()))
    assert [frame.name for frame in rest if frame.name != "text_chunk"] == [
        "workflow_started",
        "human_input_form_filled",
        "node_finished",
        "node_started",
        "node_finished",
        "workflow_finished",
    ]
    assert rest[0].event["data"]["reason"] == "resumption"  # type: ignore[index]
    filled = rest[1].event["data"]  # type: ignore[index]
    assert (filled["action_id"], filled["action_text"]) == ("approve", "Approve")
    assert filled["submitted_data"] == {"comment": "Fine.", "tone": "warm"}
    numbers = [int(frame.id or 0) for frame in (*first, *rest)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_who_stays_through_the_pause_sees_the_end(house: Atelier, key: str) -> None:
    run = paused(house, key)
    query = {"include_state_snapshot": "true", "continue_on_pause": "true"}
    with follow(house, run["workflow_run_id"], key=key, **query) as stream:
        names = []
        for frame in facts(stream.iter_lines()):
            names.append(frame.name)
            if frame.name == "workflow_paused":
                send(house, key, token_of(run))
    assert names[-1] == "workflow_finished"
    assert names.count("workflow_started") == 2
    with follow(house, paused(house, key)["workflow_run_id"], key=key, include_state_snapshot="true") as stream:
        assert [frame.name for frame in facts(stream.iter_lines())][-1] == "workflow_paused"


def test_a_form_is_taken_once(house: Atelier, key: str) -> None:
    run = paused(house, key)
    assert send(house, key, token_of(run)).status_code == 200
    again = send(house, key, token_of(run), "reject")
    assert (again.status_code, again.json()["code"]) == (412, "human_input_form_submitted")
    assert house.http.get(f"{FORM}/{token_of(run)}", headers=house.bearer(key)).status_code == 412
    assert ended(house, key, run["workflow_run_id"])["outputs"]["verdict"] == "Approve"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action": "burn"}, "Invalid action: burn"),
        ({"inputs": {"tone": "dry"}}, "Missing required inputs: comment"),
        ({"inputs": {"tone": "loud", "comment": "x"}}, "Invalid value for select input 'tone'"),
        ({"inputs": {"tone": "dry", "comment": ["x"]}}, "Invalid value for paragraph input 'comment'"),
    ],
)
def test_a_form_that_is_filled_in_wrong_still_waits(
    house: Atelier, key: str, changes: dict[str, Any], message: str
) -> None:
    token = token_of(paused(house, key))
    body = {"inputs": {"comment": "c", "tone": "dry"}, "action": "approve", "user": "editor"} | changes
    refused = house.http.post(f"{FORM}/{token}", json=body, headers=house.bearer(key))
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_form_data")
    assert refused.json()["message"].startswith(message)
    assert send(house, key, token).status_code == 200


def test_another_apps_key_finds_no_form(house: Atelier, key: str) -> None:
    token = token_of(paused(house, key))
    assert house.http.get(f"{FORM}/{token}").json()["message"] == "Form not found"
    assert house.http.get(f"{FORM}/nothing", headers=house.bearer(key)).status_code == 404


def test_a_stopped_run_closes_its_form(house: Atelier, key: str) -> None:
    run = paused(house, key)
    stop = house.http.post(
        f"/v1/workflows/tasks/{run['task_id']}/stop", json={"user": "abc-123"}, headers=house.bearer(key)
    )
    assert stop.json()["status"] == "stopped"
    refused = send(house, key, token_of(run))
    assert (refused.status_code, refused.json()["code"]) == (412, "human_input_form_expired")


def test_a_form_that_nobody_fills_in_is_left_by_its_timeout(house: Atelier) -> None:
    key = house.app_key(DOCUMENT, "hasty")
    document = house.data_dir / "hasty.yml"
    document.write_text(DOCUMENT.read_text().replace("timeout: 0.0006", "timeout: 0.000005"))
    house.cli("workflows", "publish", str(document), "--app", "hasty")
    run = house.until("the new version runs", lambda: _expiring(house, key))
    done = ended(house, key, run["workflow_run_id"])
    assert (done["status"], done["outputs"]) == ("succeeded", {"draft": "About cats."})
    with follow(house, run["workflow_run_id"], key=key, last_id="0") as stream:
        assert "human_input_form_timeout" in [frame.name for frame in facts(stream.iter_lines())]


def _expiring(house: Atelier, key: str) -> dict[str, Any] | None:
    run = paused(house, key)
    reason = run["data"]["reasons"][0]
    return run if reason["expiration_time"] - run["data"]["created_at"] < 5 else None


def test_a_paused_run_outlives_its_server(tmp_path: Path) -> None:
    server = start(tmp_path, worker="none")
    key = patient(server)
    run = paused(server, key)
    server.kill()
    server.http.close()
    with running(tmp_path, worker="none") as server:
        found = server.http.get(f"/v1/workflows/run/{run['workflow_run_id']}", headers=server.bearer(key)).json()
        assert found["status"] == "paused"
        assert send(server, key, token_of(run)).status_code == 200
        assert ended(server, key, run["workflow_run_id"])["status"] == "succeeded"


def test_a_pause_takes_none_of_the_runs_time(tmp_path: Path) -> None:
    with running(tmp_path, worker="none", run_timeout_s="2", reaper_beat_s="0.2") as server:
        key = patient(server)
        run, short = paused(server, key), server.run({"prompt": "never painted"}, response_mode="async").json()
        assert server.until_ended(short["id"])["status"] == "failed"  # time has passed for those that go on
        assert send(server, key, token_of(run)).status_code == 200
        assert ended(server, key, run["workflow_run_id"])["status"] == "succeeded"
