"""What rubbish gets: a 4xx with a code, the field and a sentence; no run, no traceback."""

from __future__ import annotations

from typing import Any

import pytest

from tests.servers import Atelier

RUN = "/v1/workflows/run"
GOOD = {"inputs": {"prompt": "a red circle"}, "response_mode": "blocking", "user": "abc-123"}


def count_runs(web: Atelier) -> int:
    return int(web.http.get("/v1/workflows/logs").json()["total"])


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"user": None}, "user", "Arg user must be provided."),
        ({"user": ""}, "user", "Arg user must be provided."),
        ({"user": 0}, "user", "Arg user must be provided."),
        ({"inputs": None}, "inputs", "inputs must be an object"),
        ({"inputs": []}, "inputs", "inputs must be an object"),
        ({"inputs": {}}, "prompt", "prompt is required in input form"),
        ({"inputs": {"prompt": None}}, "prompt", "prompt is required in input form"),
        ({"inputs": {"prompt": 5}}, "prompt", "prompt in input form must be a string"),
        ({"inputs": {"prompt": "x" * 32_001}}, "prompt", "prompt in input form must be less than 32000 characters"),
        ({"response_mode": "later"}, "response_mode", "response_mode must be 'blocking', 'streaming' or 'async'"),
        ({"response_mode": 7}, "response_mode", "response_mode must be"),
    ],
)
def test_a_wrong_field_is_named(web: Atelier, change: dict[str, Any], field: str, words: str) -> None:
    before = count_runs(web)
    answer = web.http.post(RUN, json=GOOD | change)
    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid_param"
    assert answer.json()["params"] == field
    assert words in answer.json()["message"]
    assert count_runs(web) == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("width", 0),
        ("width", 99999),
        ("width", 65),
        ("height", -8),
        ("height", "tall"),
        ("steps", -1),
        ("steps", 0),
        ("steps", 1.5),
        ("seed", "abc"),
        ("seed", {"a": 1}),
        ("n", 1000),
        ("n", True),
        ("guidance_scale", "NaN"),
        ("guidance_scale", 1e9),
        ("scheduler", "magic"),
        ("model_name", "no-such-checkpoint"),
        ("model_name", "../../etc/passwd"),
    ],
)
@pytest.mark.parametrize("mode", ["blocking", "streaming"])
def test_a_picture_that_cannot_be_is_refused_before_there_is_a_run(
    web: Atelier, name: str, value: object, mode: str
) -> None:
    before = count_runs(web)
    answer = web.run({"prompt": "a red circle", name: value}, response_mode=mode)
    assert answer.status_code == 400, answer.text
    assert answer.json()["params"] == name
    assert name in answer.json()["message"] or str(value) in answer.json()["message"]
    assert count_runs(web) == before


def test_an_unknown_checkpoint_is_told_what_there_is_and_where_to_put_it(web: Atelier) -> None:
    message = web.run({"prompt": "x", "model_name": "dosmix_"}).json()["message"]
    assert "'dosmix_'" in message
    assert "atelier-shapes" in message
    assert str(web.checkpoints_dir) in message


def test_a_corrupt_checkpoint_is_refused_with_its_reason(web: Atelier) -> None:
    (web.checkpoints_dir / "broken.safetensors").write_bytes(b"<!DOCTYPE html><html>404</html>")
    answer = web.run({"prompt": "x", "model_name": "broken"})
    assert answer.status_code == 400
    assert answer.json()["params"] == "model_name"
    assert "'broken' can't be used" in answer.json()["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"not json", b'{"inputs": {"prompt": "\xff"}}', b"[" * 100_000])
def test_a_body_that_is_no_json_is_a_bad_request(web: Atelier, body: bytes) -> None:
    answer = web.http.post(RUN, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


@pytest.mark.parametrize("body", ["[]", "null", '"text"', "3", "true"])
def test_a_body_that_is_no_object_is_a_bad_request(web: Atelier, body: str) -> None:
    answer = web.http.post(RUN, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert "object" in answer.json()["message"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_another_content_type_is_unsupported(web: Atelier, content_type: str) -> None:
    answer = web.http.post(RUN, content=b"{}", headers={"content-type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_five_megabytes_are_too_large(web: Atelier) -> None:
    answer = web.http.post(RUN, json=GOOD | {"inputs": {"prompt": "x" * 5_000_000}})
    assert (answer.status_code, answer.json()["code"]) == (413, "request_entity_too_large")


def test_five_megabytes_without_a_length_are_too_large_as_well(web: Atelier) -> None:
    chunks = (b" " * 100_000 for _ in range(50))
    answer = web.http.post(RUN, content=chunks, headers={"content-type": "application/json"})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/v1x", 404, "not_found"),
        ("DELETE", RUN, 405, "method_not_allowed"),
        ("GET", RUN, 405, "method_not_allowed"),
        ("POST", "/v1/info", 405, "method_not_allowed"),
        ("GET", f"{RUN}/00000000-0000-7000-8000-000000000000", 404, "not_found"),
        ("GET", f"{RUN}/abc", 404, "not_found"),
        ("GET", "/v1/workflows/logs?page=0", 400, "invalid_param"),
        ("GET", "/v1/workflows/logs?limit=101", 400, "invalid_param"),
        ("GET", "/v1/workflows/logs?limit=ten", 400, "invalid_param"),
        ("GET", "/v1/workflows/logs?status=lost", 400, "invalid_param"),
        ("GET", "/v1/workflows/logs?created_at__after=yesterday", 400, "invalid_param"),
    ],
)
def test_every_wrong_turn_gets_the_envelope(web: Atelier, method: str, path: str, status: int, code: str) -> None:
    answer = web.http.request(method, path)
    assert answer.status_code == status
    assert answer.json()["code"] == code
    assert answer.json()["status"] == status
    assert answer.json()["message"]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "Authorization header must be provided and start with 'Bearer'"),
        ("Bearer", "Authorization header must be provided and start with 'Bearer'"),
        ("Basic abc", "Authorization scheme must be 'Bearer'"),
        ("Bearer app-000000000000000000000000", "Access token is invalid"),
        ("Bearer nonsense", "Access token is invalid"),
    ],
)
def test_a_missing_or_wrong_key_is_unauthorized(web: Atelier, header: str | None, message: str) -> None:
    web.http.headers.pop("authorization", None)
    try:
        answer = web.http.post(RUN, json=GOOD, headers={"authorization": header} if header else {})
    finally:
        web.http.headers.update(web.bearer(web.key))
    assert answer.status_code == 401
    said = answer.json()
    assert list(said) == ["code", "message", "status", "retryable", "request_id"]
    assert (said["code"], said["message"], said["status"]) == ("unauthorized", message, 401)
    assert answer.headers["www-authenticate"] == 'Bearer realm="api"'


def test_an_answer_has_the_requests_id(web: Atelier) -> None:
    assert web.http.get("/livez", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    assert len(web.http.get("/livez", headers={"x-request-id": "bad id!"}).headers["x-request-id"]) == 36
