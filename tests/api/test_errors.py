"""The table of errors, both ways: each of its errors can be had through the door, and looks as the table says."""

from __future__ import annotations

import json
import socket
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from app import errors
from app.api.documents.errors import errors_page
from app.errors import AtelierError
from tests.media import png_bomb
from tests.servers import ROOT, Atelier, running

RUN = "/v1/workflows/run"
ECHO = ROOT / "workflows" / "echo.yml"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    """A server whose rows and files are spoiled by the tests."""
    with running(tmp_path_factory.mktemp("errors"), worker_module="tests.chaos.painter", retry_delay_s="0") as server:
        server.until_ready()
        yield server


def spoil(house: Atelier, statement: str, *values: str) -> None:
    with sqlite3.connect(house.data_dir / "atelier.db", timeout=10) as database:
        assert database.execute(statement, values).rowcount == 1


def post(house: Atelier, content: bytes = b"{}", content_type: str = "application/json") -> httpx.Response:
    return house.http.post(RUN, content=content, headers={"content-type": content_type})


def key_of(house: Atelier, app: str, document: Path = ECHO) -> str:
    """A key of an app of its own; if nothing else is said it echoes."""
    kept = house.data_dir / f"key-{app}"
    if not kept.exists():
        kept.write_text(house.app_key(document, app))
    return kept.read_text()


def a_run_of_another_body(house: Atelier) -> httpx.Response:
    bodies = [{"inputs": {"prompt": prompt, "steps": 1}, "user": "u"} for prompt in "ab"]
    return [house.http.post(RUN, json=body, headers={"idempotency-key": "twice"}) for body in bodies][-1]


def an_app_without_workflow(house: Atelier) -> httpx.Response:
    key = key_of(house, "empty")
    spoil(house, "UPDATE apps SET workflow_id = 'gone' WHERE name = 'empty'")
    return house.run({"text": "a"}, key)


def an_old_document(house: Atelier) -> httpx.Response:
    key, change = key_of(house, "old"), "document = replace(document, 'type: end', 'type: knowledge')"
    spoil(house, f"UPDATE workflows SET {change} WHERE app_id = (SELECT id FROM apps WHERE name = 'old')")
    return house.run({"text": "a"}, key)


def one_too_many(house: Atelier) -> httpx.Response:
    key = house.cli("keys", "create", "--max-active", "1")
    first = house.run({"prompt": "stall"}, key, response_mode="async").json()
    refused = house.run({"prompt": "p"}, key)
    house.http.post(f"/v1/workflows/tasks/{first['task_id']}/stop", json={"user": "abc-123"})
    return refused


def a_row_that_cannot_be(house: Atelier) -> httpx.Response:
    run_id = house.run({"prompt": "p", "steps": 1}).json()["workflow_run_id"]
    spoil(house, "UPDATE runs SET outputs = '{' WHERE id = ?", run_id)
    return house.http.get(f"{RUN}/{run_id}")


def a_damaged_picture(house: Atelier) -> httpx.Response:
    outputs = house.run({"prompt": str(uuid4()), "steps": 1}).json()["data"]["outputs"]
    for file in filter(Path.is_file, (house.data_dir / "artifacts").rglob("*")):
        file.chmod(0o600)
        file.write_bytes(b"damaged")
    return house.http.get(next(iter(outputs.values()))[0]["url"])


def upload(house: Atelier, *parts: tuple[str, str, str | None]) -> httpx.Response:
    """Parts as (field, file name, type) of an upload; a file that is a picture of far too many pixels."""
    files = [(field, (name, png_bomb(), kind)) for field, name, kind in parts]
    return house.http.post("/v1/files/upload", files=files or None)


def an_upload_without_its_type(house: Atelier) -> httpx.Response:
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--x--\r\n'
    headers = {"content-type": "multipart/form-data; boundary=x"}
    return house.http.post("/v1/files/upload", content=body, headers=headers)


def an_upload_without_a_name(house: Atelier) -> httpx.Response:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename=""\r\nContent-Type: text/plain'
    headers = {"content-type": "multipart/form-data; boundary=x"}
    return house.http.post("/v1/files/upload", content=head + b"\r\n\r\nx\r\n--x--\r\n", headers=headers)


PICTURE = ("file", "a.png", "image/png")


def filled_in(house: Atelier, action: str, times: int = 1, *, stopped: bool = False) -> httpx.Response:
    """The last answer to a form that is filled in so often."""
    key = key_of(house, "approval", ROOT / "tests" / "documents" / "approval.yml")
    run = house.run({"topic": "cats"}, key).json()
    form = f"/v1/form/human_input/{run['data']['reasons'][0]['form_token']}"
    body = {"inputs": {"comment": "c", "tone": "dry"}, "action": action, "user": "abc-123"}
    if stopped:
        house.http.post(f"/v1/workflows/tasks/{run['task_id']}/stop", json=body, headers=house.bearer(key))
    return [house.http.post(form, json=body, headers=house.bearer(key)) for _ in range(times)][-1]


PROVOKED: dict[type[AtelierError], Callable[[Atelier], httpx.Response]] = {
    errors.AtelierError: a_row_that_cannot_be,
    errors.InvalidParam: lambda house: house.run({"prompt": "p", "width": 65}),
    errors.CheckpointUnavailable: lambda house: house.run({"prompt": "p", "model_name": "none"}),
    errors.InvalidFormData: lambda house: filled_in(house, "burn"),
    errors.FormSubmitted: lambda house: filled_in(house, "approve", 2),
    errors.FormExpired: lambda house: filled_in(house, "approve", stopped=True),
    errors.BadRequest: lambda house: post(house, b"{"),
    errors.AppUnavailable: an_app_without_workflow,
    errors.Unauthorized: lambda house: house.http.get("/v1/info", headers=house.bearer("app-none")),
    errors.Forbidden: lambda house: house.http.get(
        "/files/tools/00000000-0000-7000-8000-000000000000.png?timestamp=1&nonce=n&sign=s"
    ),
    errors.NotFound: lambda house: house.http.get(f"{RUN}/00000000-0000-7000-8000-000000000000"),
    errors.EndUserNotFound: lambda house: house.http.get("/v1/end-users/00000000-0000-7000-8000-000000000000"),
    errors.FileNotFound: lambda house: house.http.get("/v1/files/00000000-0000-7000-8000-000000000000/preview"),
    errors.NoFileUploaded: upload,
    errors.TooManyFiles: lambda house: upload(house, PICTURE, ("other", "b.png", "image/png")),
    errors.FilenameMissing: an_upload_without_a_name,
    errors.FileTooLarge: lambda house: upload(house, PICTURE),
    errors.UnsupportedFileType: an_upload_without_its_type,
    errors.MethodNotAllowed: lambda house: house.http.delete("/v1/info"),
    errors.IdempotencyConflict: a_run_of_another_body,
    errors.BodyTooLarge: lambda house: post(house, b" " * 5_000_000),
    errors.UnsupportedMediaType: lambda house: post(house, b"a=b", "application/x-www-form-urlencoded"),
    errors.TooManyRequests: one_too_many,
    errors.Unavailable: a_damaged_picture,
    errors.DocumentInvalid: an_old_document,
}


def a_stopped_picture(house: Atelier) -> httpx.Response:
    with ThreadPoolExecutor(1) as side:
        asking = side.submit(house.http.post, PICTURES, json={"prompt": "stall", "user": "stopped"})
        stopped = "/v1/workflows/runs?user=stopped&status=running"
        run = house.until("it runs", lambda: house.http.get(stopped).json()["data"])[0]
        house.http.post(f"/v1/workflows/tasks/{run['id']}/stop", json={"user": "stopped"})
        return asking.result()


PICTURES = "/v1/images/generations"
OF_PICTURES: dict[type[AtelierError], Callable[[Atelier], httpx.Response]] = {
    errors.RunFailed: lambda house: house.http.post(PICTURES, json={"prompt": "too large"}),
    errors.RunStopped: a_stopped_picture,
    errors.RunOverdue: lambda house: house.http.post(PICTURES, json={"prompt": "stall"}, headers={"cancel-after": "1"}),
}


@pytest.mark.parametrize("error", OF_PICTURES, ids=lambda error: error.__name__)
def test_a_picture_that_did_not_come_is_an_error_in_the_words_of_the_dialect(
    house: Atelier, error: type[AtelierError]
) -> None:
    answer = OF_PICTURES[error](house)
    said = answer.json()["error"]
    assert (said["code"], answer.status_code) == (error.code, error.status)
    assert said["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert f"| {error.status} | `{error.code}` | {errors.sentence(error)} |" in errors_page()


def test_the_page_is_what_the_code_says() -> None:
    assert (ROOT / "docs" / "errors.md").read_text() == errors_page(), "run `make docs`"


@pytest.mark.parametrize(
    "error", [error for error in errors.answers() if error not in OF_PICTURES], ids=lambda error: error.__name__
)
def test_each_error_of_the_table_can_be_had(house: Atelier, error: type[AtelierError]) -> None:
    answer = PROVOKED[error](house)
    said = answer.json()
    assert (said["code"], said["status"], said["retryable"]) == (error.code, error.status, error.retryable)
    assert list(said)[:3] == ["code", "message", "status"]
    assert said["message"]
    assert said["request_id"] == answer.headers["x-request-id"]
    assert error.field == "" or said["params"]
    assert "Traceback" not in answer.text
    assert error.where
    assert f"| {error.status} | `{error.code}` | {errors.sentence(error)} |" in errors_page()


@pytest.mark.parametrize("error", [errors.InvalidParam, errors.CheckpointUnavailable], ids=lambda error: error.__name__)
def test_a_nodes_own_setting_names_its_node(house: Atelier, error: type[AtelierError]) -> None:
    said = PROVOKED[error](house).json()
    assert list(said) == ["code", "message", "status", "params", "retryable", "request_id", "node_id", "node_title"]
    assert said["node_title"] == "Paint"


def test_a_document_that_cannot_be_run_names_its_node(house: Atelier) -> None:
    said = an_old_document(house).json()
    assert (said["node_id"], said["node_title"]) == ("finish", "Finish")
    assert [problem["node_id"] for problem in said["problems"]] == ["finish"]
    assert "'knowledge' is not supported" in said["problems"][0]["message"]


def test_an_answer_says_what_its_error_calls_for(house: Atelier) -> None:
    assert PROVOKED[errors.Unauthorized](house).headers["www-authenticate"] == 'Bearer realm="api"'
    assert PROVOKED[errors.MethodNotAllowed](house).headers["allow"] == "GET, HEAD"
    assert house.http.get(RUN).headers["allow"] == "POST"
    assert house.http.patch("/v1/keys").headers["allow"] == "GET, HEAD, POST"
    assert int(a_damaged_picture(house).headers["retry-after"]) > 0


def test_too_little_memory_says_what_to_do(house: Atelier) -> None:
    run = house.run({"prompt": "too large"}).json()["data"]
    assert run["status"] == "failed"
    assert "Ask for a smaller picture, or for fewer at once (n)." in run["error"]
    database = sqlite3.connect(house.data_dir / "atelier.db")
    types = database.execute("SELECT error_type FROM steps WHERE run_id = ?", (run["id"],)).fetchall()
    assert types == [("gpu_out_of_memory",)]


def test_a_stream_that_breaks_says_so_in_the_envelope(house: Atelier) -> None:
    run_id = house.run({"prompt": "p", "steps": 1}).json()["workflow_run_id"]
    with sqlite3.connect(house.data_dir / "atelier.db", timeout=10) as database:
        database.execute("UPDATE events SET entries = '{' WHERE run_id = ?", (run_id,))
    answer = house.http.get(f"/v1/workflow/{run_id}/events?user=abc-123&after=0")
    last = json.loads(answer.text.strip().splitlines()[-1].removeprefix("data: "))
    assert (last["event"], last["code"], last["status"]) == ("error", "internal_server_error", 500)
    assert last["request_id"] == answer.headers["x-request-id"]


def test_what_is_no_http_gets_the_envelope_too(house: Atelier) -> None:
    host, port = house.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        line.sendall(b"NONSENSE\r\n\r\n")
        head, _, body = b"".join(iter(lambda: line.recv(65536), b"")).partition(b"\r\n\r\n")
    said = json.loads(body)
    assert head.startswith(b"HTTP/1.1 400 ")
    assert (said["code"], said["status"], said["retryable"]) == ("bad_request", 400, False)
    assert f"x-request-id: {said['request_id']}".encode() in head


def test_a_refused_preflight_gets_the_envelope(house: Atelier) -> None:
    asks = {"origin": "https://example.org", "access-control-request-method": "BREW"}
    answer = house.http.options(RUN, headers=asks)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert answer.headers["access-control-allow-origin"] == "*"


def test_a_page_of_another_origin_may_send_what_is_read(house: Atelier) -> None:
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "idempotency-key, prefer"}
    answer = house.http.options(RUN, headers={"origin": "https://example.org", **asks})
    assert answer.status_code == 200
    assert "Idempotency-Key" in answer.headers["access-control-allow-headers"]


@pytest.mark.parametrize("path", ["/v1/info/", "/v1//info", "/v1", "/v1/workflows/run/", "/%00", "/v1/%ff"])
def test_an_almost_right_path_is_unknown(house: Atelier, path: str) -> None:
    answer = house.http.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
