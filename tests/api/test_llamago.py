"""llama.go's dialect, as its Go client and others meet it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.clients.llamago import GoError, content, is_done, read_stream
from tests.dialects import QUICKLY
from tests.servers import Atelier, running

GENERATE, COMPLETE = "/api/generate", "/v1/completions"
LINES, EVENTS = "application/x-ndjson", "text/event-stream"
SHAPES = "atelier-shapes"
OBJECT = {"code": 400, "message": "prompt is required", "type": "invalid_request_error"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    folder = tmp_path_factory.mktemp("llamago")
    with running(
        folder, worker_module="tests.chaos.painter", env_too=QUICKLY, llamago_port="0", retry_delay_s="0"
    ) as server:
        server.until_ready()
        yield server


@pytest.fixture(scope="module")
def port(server: Atelier) -> Iterator[httpx.Client]:
    """The dialect's own port, where its clients find its paths as they know them."""
    with httpx.Client(base_url=server.urls["llama.go"], headers=server.bearer(server.key), timeout=60) as client:
        yield client


def generated(port: httpx.Client, accept: str = LINES, path: str = GENERATE, **body: Any) -> httpx.Response:
    asked = {"model": "", "prompt": "a red ring", "options": {"steps": 2}, **body}
    return port.post(path, json=asked, headers={"accept": accept})


@pytest.mark.parametrize("path", [GENERATE, COMPLETE])
@pytest.mark.parametrize("accept", [LINES, EVENTS, "*/*"])
def test_the_go_client_reads_progress_a_url_and_the_end(port: httpx.Client, accept: str, path: str) -> None:
    answer = generated(port, accept, path)
    pieces = list(read_stream(answer.content))
    assert answer.headers["content-type"].partition(";")[0] == (LINES if accept == LINES else EVENTS)
    assert (content(pieces[0]), pieces[0]["total"]) == ("", 2)
    assert [is_done(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    (url,) = filter(None, map(content, pieces))
    picture = port.get(url, headers={"authorization": ""})
    assert base64.b64decode(pieces[-2]["image"]) == picture.content
    assert (picture.headers["content-type"], pieces[-1]["usage"]["total_tokens"]) == ("image/png", 0)
    assert pieces[-1]["id"] == f"chatcmpl-{answer.headers['x-workflow-run-id']}"


def test_lines_are_json_each_and_events_end_as_openais_do(port: httpx.Client) -> None:
    lines, events = (generated(port, accept).content for accept in (LINES, EVENTS))
    assert all(line.startswith(b"{") and line.endswith(b"}") for line in lines.removesuffix(b"\n").split(b"\n"))
    assert events.endswith(b"}\n\ndata: [DONE]\n\n")
    assert b"data: data:" not in events


def test_a_reply_that_is_no_stream_has_the_picture_beside_its_choices(port: httpx.Client) -> None:
    answer = generated(port, "*/*", stream=False)
    (piece,) = read_stream(answer.content)
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert port.get(content(piece)).content == base64.b64decode(piece["image"])
    assert (is_done(piece), piece["object"], piece["model"]) == (True, "text_completion", SHAPES)
    assert piece["timings"]["predicted_n"] == 1


def test_several_pictures_are_several_choices(port: httpx.Client) -> None:
    (whole,) = read_stream(generated(port, "*/*", stream=False, options={"steps": 1, "n": 2}).content)
    pieces = [p for p in read_stream(generated(port, options={"steps": 1, "n": 2}).content) if content(p)]
    assert [choice["index"] for choice in whole["choices"]] == [p["choices"][0]["index"] for p in pieces] == [0, 1]
    assert len(set(whole["images"])) == len({p["image"] for p in pieces}) == 2


@pytest.mark.parametrize("stream", [True, False])
def test_a_picture_too_large_for_a_line_of_the_go_client_is_told_by_its_url(port: httpx.Client, stream: bool) -> None:
    pieces = list(read_stream(generated(port, prompt="noise", stream=stream).content))
    (url,) = filter(None, map(content, pieces))
    assert is_done(pieces[-1])
    assert not any("image" in piece for piece in pieces)
    others = generated(port, EVENTS, prompt="noise", stream=stream).text
    assert len(port.get(url).content) * 4 // 3 < len(others)


# What llama.go itself writes, byte by byte, and what is written here instead: the client reads the same of both.
PIECE = b'{"choices":[{"text":"a","index":0,"logprobs":null,"finish_reason":null}],"created":1,"model":"m"}'
LAST = b'{"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"stop"}],"created":1,"model":"m"}'
FRAMINGS = {
    "its lines": b"data: " + PIECE + b"\n\n\ndata: " + LAST + b"\n\n\ndata: [DONE]\n\n\n",
    "our lines": PIECE + b"\n" + LAST + b"\n",
    "our events": b"data: " + PIECE + b"\n\ndata: " + LAST + b"\n\ndata: [DONE]\n\n",
}


@pytest.mark.parametrize("body", FRAMINGS.values(), ids=FRAMINGS)
def test_framings_that_the_client_reads(body: bytes) -> None:
    pieces = list(read_stream(body))
    assert ([content(p) for p in pieces], [is_done(p) for p in pieces]) == (["a", ""], [False, True])


def test_its_own_events_are_what_its_client_can_not_read() -> None:
    with pytest.raises(GoError, match="unmarshal"):
        list(read_stream(b"data: data: " + PIECE + b"\n\n\n\n"))


REFUSED: dict[str, tuple[str, dict[str, Any], int, Any]] = {
    "no prompt": (GENERATE, {"prompt": ""}, 400, "prompt is required"),
    "no prompt, as an object": (COMPLETE, {"prompt": ""}, 400, OBJECT),
    "unknown model": (GENERATE, {"prompt": "a", "model": "None"}, 404, "model 'None' not found"),
    "unknown model, as an object": (
        COMPLETE,
        {"prompt": "a", "model": "x"},
        404,
        {"code": 404, "message": "model 'x' not found", "type": "not_found_error"},
    ),
    "no text": (GENERATE, {"prompt": 1}, 400, "prompt: expected str, got int"),
    "a prompt without end": (GENERATE, {"prompt": "a" * 32_001}, 400, "prompt: expected str of length <= 32000"),
    "a setting of another type": (
        GENERATE,
        {"prompt": "a", "options": {"steps": "many"}},
        400,
        "options.steps must be a number",
    ),
    "no base64": (GENERATE, {"prompt": "a", "images": ["-"]}, 400, "images[0] is no base64"),
    "no picture": (
        GENERATE,
        {"prompt": "a", "images": ["aGk="]},
        400,
        "images[0] is no picture that can be read; send PNG, JPEG, WebP, GIF or BMP, from its first byte to its last",
    ),
    "a mask of nothing": (
        GENERATE,
        {"prompt": "a", "options": {"mask": "aGk="}},
        400,
        "options.mask needs the picture that it belongs to, in images",
    ),
    "a mask of nothing, beside the options": (
        GENERATE,
        {"prompt": "a", "mask": "aGk="},
        400,
        "mask needs the picture that it belongs to, in images",
    ),
    "keep_alive without a unit": (
        GENERATE,
        {"prompt": "a", "keep_alive": "300"},
        400,
        'time: missing unit in duration "300"',
    ),
    "keep_alive of another kind": (GENERATE, {"prompt": "a", "keep_alive": True}, 400, "Unsupported type: 'bool'"),
    "showing an unknown model": ("/api/show", {"model": "x"}, 404, "model 'x' not found"),
    "chatting": ("/api/chat", {"model": "Atelier-Shapes:latest"}, 400, f'"{SHAPES}" does not support chat'),
    "embedding": ("/api/embed", {"model": ""}, 400, f'"{SHAPES}" does not support embeddings'),
    "embedding, the older way": ("/api/embeddings", {}, 400, f'"{SHAPES}" does not support embeddings'),
    "chatting, as an object": (
        "/v1/chat/completions",
        {"messages": []},
        400,
        {"code": 400, "message": f'"{SHAPES}" does not support chat', "type": "invalid_request_error"},
    ),
    "embedding, as an object": (
        "/v1/embeddings",
        {"input": "a"},
        400,
        {"code": 400, "message": f'"{SHAPES}" does not support embeddings', "type": "invalid_request_error"},
    ),
    "changing properties": (
        "/props",
        {},
        500,
        "This server does not support changing global properties. Start it with `--props`",
    ),
    "what is not there": ("/api/pull", {"model": "x"}, 404, "There is nothing at /llamago/api/pull."),
}


def test_slots_are_told_by_none_that_was_not_started_for_it(port: httpx.Client) -> None:
    answer = port.get("/slots")
    said = "This server does not support slots endpoint. Start it with `--slots`"
    assert (answer.status_code, answer.json()) == (500, {"error": said})


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_has_llama_gos_form(port: httpx.Client, case: str) -> None:
    path, body, status, said = REFUSED[case]
    answer = port.post(path, json=body)
    assert (answer.status_code, answer.json()) == (status, {"error": said})


def test_a_number_that_is_larger_than_any_is_answered_or_refused(port: httpx.Client) -> None:
    endless = 10**400
    assert generated(port, stream=False, keep_alive=-endless).status_code == 200
    for name in ("seed", "steps", "guidance_scale", "width"):
        answer = generated(port, stream=False, options={name: endless})
        assert (answer.status_code, answer.json()["error"].startswith(f"{name} must be")) == (400, True)


@pytest.mark.parametrize("accept", [LINES, EVENTS])
def test_a_run_that_fails_in_a_stream_is_an_error_for_the_go_client(port: httpx.Client, accept: str) -> None:
    with pytest.raises(GoError, match="GPU ran out of memory"):
        list(read_stream(generated(port, accept, prompt="too large").content))
    answer = generated(port, "*/*", COMPLETE, prompt="too large", stream=False)
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")


def test_it_tells_of_itself_what_its_clients_read(port: httpx.Client) -> None:
    props = port.get("/props").json()
    assert props["n_ctx"] == props["default_generation_settings"]["n_ctx"] == 77
    assert (props["model_path"], props["modalities"]) == (SHAPES, {"vision": True, "audio": False})
    assert port.get("/api/version").json()["version"] == props["build_info"].partition("-")[2]
    for path in ("/health", "/"):
        answers = [port.request(method, path, headers={"authorization": ""}) for method in ("GET", "HEAD")]
        assert [(each.status_code, each.text) for each in answers] == [(200, "Llama.go is running"), (200, "")]


def test_models_are_listed_shown_and_told_when_they_are_in_memory(server: Atelier, port: httpx.Client) -> None:
    listed = port.get("/api/models").json()
    (model,) = listed["models"]
    assert port.get("/api/tags").json() == listed
    assert (model["name"], model["digest"], model["details"]["family"]) == (SHAPES, "", "shapes")
    shown = port.post("/api/show", content=b"{}").json()
    assert (shown["modelfile"], shown["model_info"], shown["capabilities"]) == (SHAPES, {}, ["image", "vision"])
    loaded = server.until("it is in memory", lambda: port.get("/api/ps").json()["models"])
    assert (loaded[0]["model"], loaded[0]["expires_at"][:2]) == (SHAPES, "23")
    assert port.get("/v1/models").json()["data"] == [port.get(f"/v1/models/{SHAPES}").json()]
    assert port.get("/v1/models/Atelier-Shapes:latest").json()["id"] == "Atelier-Shapes:latest"


def test_every_answer_has_its_headers_of_caution(port: httpx.Client) -> None:
    answers = [port.get("/health"), port.get("/nothing"), port.get("/props", headers={"authorization": ""})]
    answers.append(generated(port))
    assert [answer.status_code for answer in answers] == [200, 404, 401, 200]
    names = ("x-content-type-options", "x-frame-options", "x-xss-protection", "referrer-policy")
    told = {tuple(answer.headers[name] for name in names) for answer in answers}
    assert told == {("nosniff", "DENY", "1; mode=block", "strict-origin-when-cross-origin")}


def test_it_is_below_a_path_of_the_main_port_too(server: Atelier) -> None:
    answer = server.http.post("/llamago/api/generate", json={"prompt": "a", "stream": False, "options": {"steps": 1}})
    assert answer.json()["choices"][0]["text"].startswith(f"{server.url}/files/tools/")
    assert server.http.get("/llamago/health").text == "Llama.go is running"
