"""What an app says of itself, and the routes and headers that Dify's clients look for."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.servers import ROOT, Atelier


def test_the_first_page_says_what_api_this_is_without_a_key(web: Atelier) -> None:
    answer = web.http.get("/v1/", headers={"authorization": ""})
    assert answer.json() == {"welcome": "Dify OpenAPI", "api_version": "v1", "server_version": "1.14.2"}


@pytest.mark.parametrize("path", ["/v1/", "/v1/info", "/v1/nothing", "/files/tools/x.png"])
def test_every_answer_says_its_version(web: Atelier, path: str) -> None:
    answer = web.http.get(path, headers={"origin": "https://example.org"})
    assert (answer.headers["x-version"], answer.headers["x-env"]) == ("1.14.2", "PRODUCTION")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert {"X-Version", "X-Env", "X-Trace-Id"} <= set(answer.headers["access-control-expose-headers"].split(", "))


def test_the_tools_have_icons(web: Atelier) -> None:
    icon = {"background": "#252525", "content": "😁"}
    assert web.http.get("/v1/meta").json() == {"tool_icons": {"text_to_image": icon}}


def test_a_site_looks_as_the_document_says(web: Atelier) -> None:
    assert web.http.get("/v1/site").json() == {
        "title": "Text to image",
        "chat_color_theme": None,
        "chat_color_theme_inverted": False,
        "icon_type": "emoji",
        "icon": "🎨",
        "icon_background": "#FFEAD5",
        "icon_url": None,
        "description": "Paints a prompt with a Stable Diffusion checkpoint.",
        "copyright": None,
        "privacy_policy": None,
        "input_placeholder": None,
        "custom_disclaimer": "",
        "default_language": "en-US",
        "show_workflow_steps": True,
        "use_icon_as_answer_icon": False,
    }


def test_a_site_is_changed_by_its_keeper(web: Atelier, echo_key: str) -> None:
    words = ("title=Echo [beta]", "show_workflow_steps=false", "copyright=Eva")
    assert web.cli("workflows", "site", "echo", *words).splitlines()[:2] == [
        "title=Echo [beta]",
        "show_workflow_steps=false",
    ]
    site = web.http.get("/v1/site", headers=web.bearer(echo_key)).json()
    assert (site["title"], site["show_workflow_steps"], site["copyright"]) == ("Echo [beta]", False, "Eva")
    assert web.cli("workflows", "site", "echo", "title=", "show_workflow_steps=", "copyright=") == ""
    assert web.http.get("/v1/site", headers=web.bearer(echo_key)).json()["title"] == "Echo"


def test_the_parameters_tell_the_outputs_too(web: Atelier) -> None:
    told = web.http.get("/v1/parameters?user=abc-123").json()
    assert told["user_output_form"] == [{"variable": "files", "type": "array[file]"}]
    assert list(told["user_input_form"][0]) == ["paragraph"]
    assert told["system_parameters"] == {
        "image_file_size_limit": 10,
        "video_file_size_limit": 100,
        "audio_file_size_limit": 50,
        "file_size_limit": 15,
        "workflow_file_upload_limit": 10,
    }
    assert list(told)[:5] == [
        "opening_statement",
        "suggested_questions",
        "suggested_questions_after_answer",
        "speech_to_text",
        "text_to_speech",
    ]


def test_an_app_without_speech_says_so(web: Atelier) -> None:
    heard = web.http.post("/v1/audio-to-text", files={"file": ("a.mp3", b"sound", "audio/mpeg")}, data={"user": "u"})
    spoken = web.http.post("/v1/text-to-audio", json={"text": "hello", "user": "u"})
    for answer, message in ((heard, "Speech to text is not enabled"), (spoken, "TTS is not enabled")):
        said = answer.json()
        assert (answer.status_code, said["code"], said["message"]) == (400, "invalid_param", message)


def test_an_end_user_is_known_by_its_id_and_to_its_app_alone(web: Atelier, echo_key: str) -> None:
    headers = web.bearer(echo_key)
    told = web.run({"text": "a"}, echo_key, user="Eva", response_mode="streaming").text.strip().splitlines()[-1]
    created_by = json.loads(told.removeprefix("data: "))["data"]["created_by"]
    path = f"/v1/end-users/{created_by['id']}"
    user = web.http.get(path, headers=headers).json()
    assert (user["id"], user["external_user_id"], user["session_id"]) == (created_by["id"], "Eva", "Eva")
    assert (user["type"], user["is_anonymous"], user["name"]) == ("service-api", False, None)
    assert datetime.fromisoformat(user["created_at"]) <= datetime.now(UTC)
    assert web.http.get(path).json()["code"] == "end_user_not_found"
    assert web.http.get("/v1/end-users/Eva", headers=headers).status_code == 404


def test_an_end_user_is_known_when_its_runs_are_gone(web: Atelier, echo_key: str) -> None:
    run = web.run({"text": "a"}, echo_key, user="Adam").json()
    with sqlite3.connect(web.data_dir / "atelier.db", timeout=10) as database:
        row = "SELECT id FROM end_users WHERE user = 'Adam'"
        (user_id,) = web.until("the row is there", lambda: database.execute(row).fetchone())
        database.execute("DELETE FROM runs WHERE id = ?", (run["workflow_run_id"],))
    found = web.http.get(f"/v1/end-users/{user_id.upper()}", headers=web.bearer(echo_key))
    assert found.json()["session_id"] == "Adam"


def test_an_older_version_runs_by_its_id(web: Atelier, tmp_path: Path) -> None:
    text = (ROOT / "workflows" / "echo.yml").read_text()
    (tmp_path / "loud.yml").write_text(text.replace("{{ text }}", "{{ text | upper }}"))
    key = web.app_key(ROOT / "workflows" / "echo.yml", "versions")
    first = web.run({"text": "a"}, key).json()["data"]
    web.cli("workflows", "publish", str(tmp_path / "loud.yml"), "--app", "versions")
    web.until("the server runs it", lambda: web.run({"text": "a"}, key).json()["data"]["outputs"] == {"text": "A"})
    body = {"inputs": {"text": "b"}, "user": "u"}
    path = f"/v1/workflows/{first['workflow_id'].upper()}/run"
    again = web.http.post(path, json=body, headers=web.bearer(key)).json()["data"]
    assert (again["workflow_id"], again["outputs"]) == (first["workflow_id"], {"text": "b"})
    streamed = web.http.post(path, json=body | {"response_mode": "streaming"}, headers=web.bearer(key))
    assert first["workflow_id"] in streamed.text


def test_a_version_is_told_apart_by_an_idempotency_key(web: Atelier, echo_key: str) -> None:
    workflow_id = web.run({"text": "a"}, echo_key).json()["data"]["workflow_id"]
    headers = web.bearer(echo_key) | {"idempotency-key": "version"}
    body = {"inputs": {"text": "b"}, "user": "u"}
    statuses = [
        web.http.post(path, json=body, headers=headers).status_code
        for path in ("/v1/workflows/run", "/v1/workflows/run", f"/v1/workflows/{workflow_id}/run")
    ]
    assert statuses == [200, 200, 422]


@pytest.mark.parametrize(
    ("workflow_id", "status", "code", "message"),
    [
        ("draft", 400, "bad_request", "Invalid workflow_id format: 'draft'. "),
        ("00000000-0000-7000-8000-000000000000", 404, "not_found", "Workflow not found with id: 00000000"),
    ],
)
def test_a_version_that_is_not_there(web: Atelier, workflow_id: str, status: int, code: str, message: str) -> None:
    answer = web.http.post(f"/v1/workflows/{workflow_id}/run", json={"inputs": {}, "user": "u"})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["message"].startswith(message)


def test_a_version_of_another_app_is_not_there(web: Atelier, echo_key: str) -> None:
    mine = web.run({"text": "a"}, echo_key).json()["data"]["workflow_id"]
    answer = web.http.post(f"/v1/workflows/{mine}/run", json={"inputs": {"prompt": "p"}, "user": "u"})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
