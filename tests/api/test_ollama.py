"""Ollama's API as its clients see it: every line and every error to the byte, and what only Atelier does."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from app.api.ollama.early import read_size
from app.checkpoints.catalogue import SHIPPED_FOLDER
from tests.servers import PATIENCE_S, Atelier, running
from tests.streams import follow, frames

MODEL = "atelier-shapes"
DETAILS = {
    "parent_model": "",
    "format": "safetensors",
    "family": "StableDiffusionPipeline",
    "families": ["StableDiffusionPipeline"],
    "parameter_size": "6.04M",
    "quantization_level": "F16",
}
MOMENT = re.compile(r'"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{0,8}[1-9])?Z)"')
PICTURE = re.compile(r'"image":"(iVBORw0KGgo[A-Za-z0-9+/]+=*)"')
DURATION = re.compile(r'_duration":[1-9]\d*\b')


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    """A server with Ollama's own port, open to programs on this machine; its painter needs no torch."""
    settings = {"ollama_port": "0", "open_to_loopback": "true", "retry_delay_s": "0"}
    folder, hurry = tmp_path_factory.mktemp("ollama"), {"ATELIER_PAINTER_STEP_S": "0.002"}
    with running(folder, env_too=hurry, worker_module="tests.chaos.painter", **settings) as server:
        server.until_ready()
        yield server


@pytest.fixture(scope="module")
def ollama(house: Atelier) -> Iterator[httpx.Client]:
    """By the own port, with a key."""
    with httpx.Client(base_url=house.urls["Ollama"], headers=house.bearer(house.key), timeout=PATIENCE_S) as client:
        yield client


def told(text: str) -> str:
    """An answer with what is another one each time put aside."""
    return DURATION.sub('_duration":1', PICTURE.sub('"image":"PICTURE"', MOMENT.sub('"NOW"', text)))


def paint(client: httpx.Client, prompt: str = "a red circle", **more: Any) -> httpx.Response:
    return client.post("/api/generate", json={"model": MODEL, "prompt": prompt, **more})


def inputs_of(house: Atelier, answer: httpx.Response) -> dict[str, Any]:
    """What the step that painted was given."""
    with follow(house, answer.headers["x-workflow-run-id"], user="ollama", last_id="0") as events:
        seen = [frame.event for frame in frames(events.iter_lines()) if frame.name == "node_finished"]
    return dict(next(each["data"]["inputs"] for each in seen if each and each["data"]["node_type"] == "tool"))


LINES = (
    '{"model":"Atelier-Shapes:latest","created_at":"NOW","response":"","done":false,"total":2}\n'
    '{"model":"Atelier-Shapes:latest","created_at":"NOW","response":"","done":false,"completed":1,"total":2}\n'
    '{"model":"Atelier-Shapes:latest","created_at":"NOW","response":"","done":false,"completed":2,"total":2}\n'
)
LAST = (
    '{"model":"Atelier-Shapes:latest","created_at":"NOW","response":"","done":true,"done_reason":"stop",'
    '"total_duration":1,"load_duration":1,"image":"PICTURE"}'
)


def test_a_picture_comes_as_lines_unless_it_is_asked_for_otherwise(ollama: httpx.Client) -> None:
    answer = paint(ollama, model="Atelier-Shapes:latest", steps=2)
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert told(answer.text) == LINES + LAST + "\n"
    assert {"x-workflow-run-id", "x-task-id"} <= set(answer.headers)


def test_a_picture_as_one_object(ollama: httpx.Client) -> None:
    answer = paint(ollama, model="Atelier-Shapes:latest", steps=2, stream=False)
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert told(answer.text) == LAST


def test_a_body_is_json_whatever_it_calls_itself(ollama: httpx.Client) -> None:
    body = json.dumps({"MODEL": MODEL, "Prompt": "a star", "stream": False, "steps": 1, "surprise": [1]})
    answer = ollama.post("/api/generate", content=body, headers={"content-type": "application/x-www-form-urlencoded"})
    assert answer.json()["done_reason"] == "stop"


def test_what_is_not_ascii_is_escaped(ollama: httpx.Client) -> None:
    answer = ollama.post("/api/generate", json={"model": "gr\u00fcn\u2028", "prompt": "x"})
    assert answer.content == rb'{"error":"model ' + rb"'gr\u00fcn\u2028' not found" + rb'"}'


def test_fields_and_options_become_the_inputs_of_the_workflow(house: Atelier, ollama: httpx.Client) -> None:
    options = {
        **{"seed": 7.9, "negative_prompt": "blue", "cfg_scale": 5, "scheduler": "euler", "clip_skip": 2.0},
        **{"output_format": "webp", "quality": 80, "temperature": 0.8, "num_ctx": 4096, "stop": ["x"]},
    }
    answer = paint(ollama, width=130, height=61, steps=3, options=options, keep_alive="5m", stream=False)
    asked = inputs_of(house, answer)
    assert (asked["width"], asked["height"], asked["steps"], asked["seed"]) == (128, 64, 3, 7)
    assert (asked["negative_prompt"], asked["guidance_scale"], asked["scheduler"]) == ("blue", 5, "euler")
    assert (asked["clip_skip"], asked["format"], asked["quality"], asked["keep_alive_s"]) == (2, "webp", 80, 300)


def test_older_drafts_names_stand_in_the_options(house: Atelier, ollama: httpx.Client) -> None:
    options = {"width": 64, "height": 72, "num_inference_steps": 1, "guidance_scale": 2.5}
    asked = inputs_of(house, paint(ollama, options=options, stream=False))
    assert [asked[name] for name in ("width", "height", "steps", "guidance_scale")] == [64, 72, 1, 2.5]


def test_beyond_what_is_painted_in_one_pass_half_is_painted_and_enlarged(house: Atelier, ollama: httpx.Client) -> None:
    options = {"upscale": 1.5}
    for asked, painted in (
        ({"width": 4096, "height": 2050}, (2048, 1024, 2)),
        ({"height": 3000}, (64, 1504, 2)),
        ({"width": 2048, "height": 64}, (2048, 64, None)),
        ({"width": 3000, "height": 64, "options": options}, (1504, 64, 3)),
    ):
        told = inputs_of(house, paint(ollama, steps=1, stream=False, **asked))
        assert tuple(told.get(name) for name in ("width", "height", "upscale")) == painted


def test_the_first_form_of_image_generations_knows_no_size_that_is_too_large(
    house: Atelier, ollama: httpx.Client
) -> None:
    body = {"model": MODEL, "prompt": "x", "size": "4096x3000"}
    told = inputs_of(house, ollama.post("/ollama/v1/images/generations", json=body))
    assert [told[name] for name in ("width", "height", "upscale")] == [2048, 1504, 2]


def test_zero_and_less_mean_the_models_own(house: Atelier, ollama: httpx.Client) -> None:
    asked = inputs_of(house, paint(ollama, width=-1, height=0, steps=-5, options={"seed": 0}, stream=False))
    assert (asked["width"], asked["height"], asked["steps"]) == (64, 64, 30)
    assert asked["seed"] > 0


def test_the_same_key_gets_the_same_picture(ollama: httpx.Client) -> None:
    body = {"model": MODEL, "prompt": "a moon", "steps": 1, "stream": False}
    first, second = (ollama.post("/api/generate", json=body, headers={"idempotency-key": "moon"}) for _ in range(2))
    assert first.headers["x-workflow-run-id"] == second.headers["x-workflow-run-id"]
    assert second.headers["idempotency-replayed"] == "true"
    assert first.json()["image"] == second.json()["image"]


def test_a_run_that_has_ended_is_streamed_with_all_of_its_lines(ollama: httpx.Client) -> None:
    body = {"model": "Atelier-Shapes:latest", "prompt": "a sun", "steps": 2}
    for _ in range(2):
        answer = ollama.post("/api/generate", json=body, headers={"idempotency-key": "sun"})
        assert told(answer.text) == LINES + LAST + "\n"


def test_priority_and_deadline_are_those_of_any_run(house: Atelier, ollama: httpx.Client) -> None:
    headers = {"cancel-after": "30", "x-priority": "0"}
    answer = ollama.post("/api/generate", json=PAINT | {"steps": 1}, headers=headers)
    run = house.http.get(f"/v1/workflows/run/{answer.headers['x-workflow-run-id']}?include=task").json()
    assert run["task"]["deadline_s"] == 30


def test_a_client_that_leaves_does_not_stop_the_run(house: Atelier, ollama: httpx.Client) -> None:
    with ollama.stream("POST", "/api/generate", json={"model": MODEL, "prompt": "hold left", "steps": 2}) as answer:
        assert next(answer.iter_lines())
    (house.data_dir / "release-left").touch()
    assert house.until_ended(answer.headers["x-workflow-run-id"])["status"] == "succeeded"


def test_what_goes_wrong_after_the_first_line_is_the_last_line(house: Atelier, ollama: httpx.Client) -> None:
    with ollama.stream("POST", "/api/generate", json={"model": MODEL, "prompt": "hold stop", "steps": 9}) as answer:
        lines = answer.iter_lines()
        begun = [next(lines), next(lines)]
        stopped = house.http.post(f"/v1/workflows/tasks/{answer.headers['x-task-id']}/stop", json={"user": "x"})
        assert stopped.status_code == 200
        assert [json.loads(line).get("completed") for line in begun] == [None, 1]
        assert list(lines) == ['{"error":"request canceled"}']


@pytest.mark.parametrize("early", [False, True])
def test_what_nobody_foresaw_is_the_last_line_too(house: Atelier, ollama: httpx.Client, early: bool) -> None:
    path, name = ("/ollama/v1/images/generations", "early") if early else (GENERATE, "line")
    with ollama.stream("POST", path, json=PAINT | {"prompt": f"hold {name}", "steps": 2, "stream": True}) as answer:
        lines = answer.iter_lines()
        begun = next(lines)
        with spoiled_times(house):
            (house.data_dir / f"release-{name}").touch()
            *_, last = (line for line in lines if line)
    assert begun
    assert "The stream can't go on, but the run does" in json.loads(last.removeprefix("data:"))["error"]


@contextmanager
def spoiled_times(house: Atelier) -> Iterator[None]:
    """Whatever is painted meanwhile has times in the database that can't be read."""
    spoil = (
        "CREATE TRIGGER spoil AFTER UPDATE OF timings ON steps WHEN NEW.timings IS NOT NULL "
        "BEGIN UPDATE steps SET timings = 'x' WHERE run_id = NEW.run_id AND id = NEW.id; END"
    )
    for change in (spoil, "DROP TRIGGER spoil"):
        with sqlite3.connect(house.data_dir / "atelier.db", timeout=10) as database:
            database.execute(change)
        if change == spoil:
            yield


def test_a_worker_that_is_killed_delays_the_picture_and_no_more(house: Atelier, ollama: httpx.Client) -> None:
    with ollama.stream("POST", "/api/generate", json=PAINT | {"prompt": "hold kill", "steps": 3}) as answer:
        lines = answer.iter_lines()
        begun = [next(lines), next(lines)]
        os.kill(house.worker_pid("tests.chaos.painter") or 0, signal.SIGKILL)
        (house.data_dir / "release-kill").touch()
        *rest, last = (json.loads(line) for line in lines)
    assert [json.loads(line).get("completed", 0) for line in begun] + [each["completed"] for each in rest] == [
        0,
        1,
        2,
        3,
    ]
    assert last["image"]


@pytest.mark.parametrize("stream", [True, False])
def test_what_goes_wrong_before_the_first_line_has_a_status(ollama: httpx.Client, stream: bool) -> None:
    answer = paint(ollama, "too large", stream=stream)
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.json()["error"].startswith("The GPU ran out of memory.")


def test_a_limit_that_is_reached_makes_the_server_busy(house: Atelier, ollama: httpx.Client) -> None:
    key = house.bearer(house.cli("keys", "create", "--max-active", "1"))
    with ollama.stream("POST", "/api/generate", json={"model": MODEL, "prompt": "hold busy"}, headers=key) as held:
        next(held.iter_lines())
        answer = ollama.post("/api/generate", json={"model": MODEL, "prompt": "x"}, headers=key)
    (house.data_dir / "release-busy").touch()
    assert (answer.status_code, answer.text) == (
        503,
        '{"error":"server busy, please try again.  maximum pending requests exceeded"}',
    )
    assert int(answer.headers["retry-after"]) > 0


GENERATE, CHAT, EMBED, EMBEDDINGS, SHOW = (
    f"/api/{name}" for name in ("generate", "chat", "embed", "embeddings", "show")
)
SAID = [{"role": "user", "content": "hello"}]
PAINT = {"model": MODEL, "prompt": "x"}
NO_STRING = "json: cannot unmarshal number into Go struct field GenerateRequest.model of type string"
ERRORS: list[tuple[str, Any, int, str]] = [
    (GENERATE, b"", 400, "missing request body"),
    (GENERATE, b'{"model": ', 400, "unexpected EOF"),
    (GENERATE, b"model=x", 400, "invalid character 'm' looking for beginning of value"),
    (GENERATE, {"model": 1}, 400, NO_STRING),
    (GENERATE, {"model": MODEL, "images": ["data:image/png;base64,AA"]}, 400, "illegal base64 data at input byte 4"),
    (GENERATE, {"model": "x", "keep_alive": "-1"}, 400, 'time: missing unit in duration "-1"'),
    (GENERATE, {"model": "x", "keep_alive": True}, 400, "Unsupported type: 'bool'"),
    (GENERATE, {"model": "x", "top_logprobs": 21}, 400, "top_logprobs must be between 0 and 20"),
    (GENERATE, {}, 404, "model '' not found"),
    (GENERATE, {"model": "X:latest", "width": 9999}, 404, "model 'X:latest' not found"),
    (GENERATE, {"model": f"{MODEL}:other", "prompt": "x"}, 404, f"model '{MODEL}:other' not found"),
    (GENERATE, {"model": MODEL, "width": 4097}, 400, "width and height must be <= 4096"),
    (GENERATE, PAINT | {"height": 5000}, 400, "width and height must be <= 4096"),
    (GENERATE, PAINT | {"steps": 151}, 400, "steps must be an integer from 1 to 150, got 151"),
    (GENERATE, PAINT | {"options": {"seed": "7"}}, 400, 'option "seed" must be of type integer'),
    (GENERATE, PAINT | {"options": {"cfg_scale": "7"}}, 400, 'option "cfg_scale" must be of type float32'),
    (GENERATE, PAINT | {"options": {"negative_prompt": 7}}, 400, 'option "negative_prompt" must be of type string'),
    (GENERATE, PAINT | {"options": {"exclusive": 7}}, 400, 'option "exclusive" must be of type boolean'),
    (
        GENERATE,
        PAINT | {"options": {"cfg": 1, "cfg_scale": 2}},
        400,
        'options "cfg" and "cfg_scale" are the same setting: give one of them',
    ),
    (GENERATE, PAINT | {"options": {"mask": "AAAA"}}, 400, 'option "mask" needs a picture in images'),
    (GENERATE, PAINT | {"images": ["AAAA"] * 17}, 400, "too many input images, maximum is 16"),
    (CHAT, b"", 400, "missing request body"),
    (CHAT, {"messages": SAID}, 400, "model is required"),
    (CHAT, {"model": "x", "messages": SAID}, 404, "model 'x' not found"),
    (CHAT, {"model": MODEL, "messages": SAID}, 400, f'"{MODEL}" does not support chat'),
    (CHAT, {"model": MODEL}, 400, f'"{MODEL}" does not support chat'),
    (CHAT, {"model": MODEL, "messages": SAID, "think": True}, 400, f'"{MODEL}" does not support thinking'),
    (EMBED, {"input": "x"}, 404, "model '' not found"),
    (EMBED, {"model": "x", "input": "x"}, 404, 'model "x" not found, try pulling it first'),
    (EMBED, {"model": "x", "input": 7}, 400, "invalid input type"),
    (EMBED, {"model": MODEL, "input": ["x"]}, 400, f'"{MODEL}" does not support embeddings'),
    (EMBEDDINGS, {"prompt": "x"}, 400, "model is required"),
    (EMBEDDINGS, {"model": "x", "prompt": "x"}, 404, 'model "x" not found, try pulling it first'),
    (EMBEDDINGS, {"model": MODEL, "prompt": "x"}, 400, f'"{MODEL}" does not support embeddings'),
    (SHOW, b"", 400, "missing request body"),
    (SHOW, {}, 400, "model is required"),
    (SHOW, {"name": "x"}, 404, "model 'x:latest' not found"),
]


@pytest.mark.parametrize(("path", "body", "status", "message"), ERRORS)
def test_errors(web: Atelier, path: str, body: Any, status: int, message: str) -> None:
    answer = web.http.post(path, content=body if isinstance(body, bytes) else json.dumps(body))
    assert (answer.status_code, answer.content) == (
        status,
        json.dumps({"error": message}, separators=(",", ":")).encode(),
    )
    assert answer.headers["content-type"] == "application/json; charset=utf-8"


KINDS = {400: "invalid_request_error", 404: "not_found_error"}
COMPLETIONS = "/v1/chat/completions"
BITS = "Invalid value for 'encoding_format' = bits. Supported values: ['float', 'base64']."
COMPATIBLE: list[tuple[str, Any, int, str]] = [
    (COMPLETIONS, b"", 400, "missing request body"),
    (COMPLETIONS, {"model": MODEL}, 400, "[] is too short - 'messages'"),
    (COMPLETIONS, {"messages": SAID}, 400, "model is required"),
    (COMPLETIONS, {"model": "x", "messages": SAID}, 404, "model 'x' not found"),
    (COMPLETIONS, {"model": MODEL, "messages": SAID}, 400, f'"{MODEL}" does not support chat'),
    ("/v1/completions", PAINT, 400, f'"{MODEL}" does not support generate'),
    ("/v1/completions", {"model": "x", "prompt": "x"}, 404, "model 'x' not found"),
    ("/v1/embeddings", {"model": MODEL}, 400, "invalid input"),
    ("/v1/embeddings", {"model": MODEL, "input": "x", "encoding_format": "bits"}, 400, BITS),
    ("/v1/embeddings", {"model": "x", "input": "x"}, 404, 'model "x" not found, try pulling it first'),
    ("/v1/embeddings", {"model": MODEL, "input": "x"}, 400, f'"{MODEL}" does not support embeddings'),
    ("/v1/responses", {"model": MODEL, "input": "x"}, 400, f'"{MODEL}" does not support chat'),
]


@pytest.mark.parametrize(("path", "body", "status", "message"), COMPATIBLE)
def test_errors_for_openais_clients(web: Atelier, path: str, body: Any, status: int, message: str) -> None:
    answer = web.http.post(path, content=body if isinstance(body, bytes) else json.dumps(body))
    said = {"message": message, "type": KINDS[status], "param": None, "code": None}
    assert (answer.status_code, answer.json()) == (status, {"error": said})


@pytest.mark.parametrize("path", ["/api/nothing", "/api/blobs", "/api/me"])
def test_an_unknown_path_is_told_without_json(web: Atelier, path: str) -> None:
    answer = web.http.get(path)
    assert (answer.status_code, answer.text) == (404, "404 page not found")
    assert answer.headers["content-type"].startswith("text/plain")


def test_everything_unknown_on_the_own_port_is_told_in_its_words(ollama: httpx.Client) -> None:
    assert ollama.get("/nothing").text == "404 page not found"
    wrong = ollama.get("/api/generate")
    assert (wrong.status_code, wrong.text, wrong.headers["allow"]) == (405, "405 method not allowed", "POST")


def test_greeting_version_and_status(web: Atelier, ollama: httpx.Client) -> None:
    for client in (web.http, ollama):
        assert client.head("/").status_code == 200
        assert client.get("/").text == "Ollama is running"
        assert client.get("/", headers={"authorization": ""}).status_code == 200
        assert client.head("/api/version").status_code == 200
        assert client.get("/api/version").content == b'{"version":"0.32.5"}'
        assert client.get("/api/status").content == b'{"cloud":{"disabled":true,"source":"config"}}'


def test_the_models_that_there_are(web: Atelier) -> None:
    def known() -> dict[str, Any] | None:
        models = {model["name"]: model for model in web.http.get("/api/tags").json()["models"]}
        return models[f"{MODEL}:latest"] if set(models[f"{MODEL}:latest"]["digest"]) != {"0"} else None

    model = web.until("the digest is reckoned", known)
    assert MOMENT.fullmatch(f'"{model.pop("modified_at")}"')
    assert re.fullmatch("[0-9a-f]{64}", model.pop("digest"))
    said = {"name": f"{MODEL}:latest", "model": f"{MODEL}:latest", "size": 12131153, "details": DETAILS}
    assert model == {**said, "capabilities": ["image", "vision"]}
    assert web.http.head("/api/tags").status_code == 200


def test_the_newest_comes_first_and_all_in_memory_are_told(house: Atelier, ollama: httpx.Client) -> None:
    newer = house.checkpoints_dir / "Dreams.v2"
    shutil.copytree(SHIPPED_FOLDER / MODEL, newer)
    os.utime(newer)
    names = [model["name"] for model in ollama.get("/api/tags").json()["models"]]
    assert names == ["Dreams.v2:latest", f"{MODEL}:latest"]
    assert paint(ollama, model="dreams.V2", steps=1, stream=False).json()["model"] == "dreams.V2"

    def both() -> list[dict[str, Any]]:
        found = ollama.get("/api/ps").json()["models"]
        return found if len(found) == 2 else []

    told = house.until("both are in memory", both)
    assert {(each["name"], each["size"], each["size_vram"], each["context_length"]) for each in told} == {
        ("Dreams.v2:latest", 1_000_000, 0, 0),
        (f"{MODEL}:latest", 1_000_000, 0, 0),
    }
    assert all(each["expires_at"] > "2318" for each in told)
    assert told[0]["details"] == DETAILS


def test_what_is_known_of_a_model(web: Atelier) -> None:
    shown = web.http.post("/api/show", json={"name": "ATELIER-shapes"}).json()
    assert shown["model_info"] == {}
    assert shown["capabilities"] == ["image", "vision"]
    assert shown["details"] == DETAILS
    assert shown["parameters"].splitlines()[0] == "width" + 26 * " " + "64"
    assert "FROM atelier-shapes:latest\nTEMPLATE {{ .Prompt }}\nPARAMETER width 64\n" in shown["modelfile"]
    assert "tensors" not in shown
    verbose = web.http.post("/api/show", json={"model": MODEL, "verbose": True, "system": "Be kind."}).json()
    assert {"name", "type", "shape"} == verbose["tensors"][0].keys()
    assert verbose["system"] == "Be kind."


def test_nothing_is_in_memory_without_a_worker(web: Atelier) -> None:
    assert web.http.get("/api/ps").content == b'{"models":[]}'


def test_a_text_of_no_length_is_embedded_as_nothing(web: Atelier) -> None:
    assert (
        web.http.post(EMBED, json={"model": MODEL, "input": ""}).content
        == b'{"model":"atelier-shapes","embeddings":[]}'
    )
    assert web.http.post(EMBEDDINGS, json={"model": MODEL}).content == b'{"embedding":[]}'


def test_a_key_is_needed(web: Atelier) -> None:
    for method, path in (("GET", "/api/tags"), ("GET", "/api/ps"), ("POST", GENERATE), ("POST", "/v1/completions")):
        answer = web.http.request(method, path, headers={"authorization": "Bearer nonsense"})
        assert answer.status_code == 401
    assert web.http.get("/api/tags", headers={"authorization": ""}).json() == {
        "error": "Authorization header must be provided and start with 'Bearer'"
    }


def test_programs_on_this_machine_need_no_key_where_the_setting_says_so(house: Atelier) -> None:
    with httpx.Client(base_url=house.urls["Ollama"]) as nobody:
        assert nobody.get("/api/tags").status_code == 200
        assert nobody.get("/api/tags", headers={"host": "localhost:11434"}).status_code == 200
        for odd in (
            {"origin": "http://localhost:3000"},
            {"x-forwarded-for": "203.0.113.7"},
            {"forwarded": "for=203.0.113.7"},
            {"host": "ollama.example.org"},
            {"authorization": "Bearer nonsense"},
        ):
            assert nobody.get("/api/tags", headers=odd).status_code == 401, odd
    assert httpx.get(f"{house.url}/api/tags").status_code == 401  # the main port is open to nobody


def test_pages_of_other_origins_may_ask_with_what_the_clients_send(web: Atelier) -> None:
    asks = {"origin": "http://localhost:3000", "access-control-request-method": "POST"}
    names = "authorization,content-type,x-stainless-lang,openai-beta"
    answer = web.http.options("/api/generate", headers=asks | {"access-control-request-headers": names})
    assert answer.status_code == 200


EARLY = "/ollama/v1/images/generations"


def test_the_first_form_of_image_generations_streams_its_own_events(ollama: httpx.Client) -> None:
    answer = ollama.post(EARLY, json={"model": MODEL, "prompt": "a star", "size": "64x64", "stream": True, "n": 3})
    assert answer.headers["content-type"] == "text/event-stream"
    frames = answer.text.split("\n\n")
    assert frames[0] == 'event:progress\ndata:{"step":1,"total":30}'
    assert frames[29] == 'event:progress\ndata:{"step":30,"total":30}'
    assert re.fullmatch(r'event:done\ndata:\{"created":\d+,"data":\[\{"b64_json":"iVBORw0KGgo[^"]+"\}\]\}', frames[30])
    assert frames[31:] == [""]


def test_the_first_form_in_one_answer(house: Atelier, ollama: httpx.Client) -> None:
    body = {"model": MODEL, "prompt": "a star", "size": "65x71", "response_format": "url", "seed": 7}
    answer = ollama.post(EARLY, json=body)
    assert re.fullmatch(r'\{"created":\d+,"data":\[\{"b64_json":"iVBORw0KGgo[^"]+"\}\]\}', answer.text)
    assert [inputs_of(house, answer)[side] for side in ("width", "height")] == [64, 72]


def test_a_size_that_is_not_given_is_1024(house: Atelier, ollama: httpx.Client) -> None:
    answer = ollama.post(EARLY, json={"model": MODEL, "prompt": "a star"})
    assert [inputs_of(house, answer)[side] for side in ("width", "height")] == [1024, 1024]


@pytest.mark.parametrize(
    ("size", "sides"),
    [
        *(("auto", (1024, 1024)), ("64x", (64, 1024)), ("0x128", (1024, 128)), ("axb", (1024, 1024))),
        *(("64x64x64", (1024, 1024)), ("-64x4097", (1024, 1024)), ("4096x1", (4096, 1)), ("512", (1024, 1024))),
    ],
)
def test_what_can_not_be_read_of_a_size_is_1024(size: str, sides: tuple[int, int]) -> None:
    assert read_size(size) == sides


def test_a_run_of_the_first_form_that_fails_is_an_event(ollama: httpx.Client) -> None:
    answer = ollama.post(EARLY, json={"model": MODEL, "prompt": "too large", "size": "64x64", "stream": True})
    assert answer.status_code == 200
    assert re.fullmatch(r'event:error\ndata:\{"error":"The GPU ran out of memory[^"]+"\}\n\n', answer.text)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "missing request body"),
        ({}, 400, "model is required"),
        ({"model": MODEL}, 400, "prompt is required"),
        ({"model": "x", "prompt": "x"}, 404, 'model "x" not found'),
    ],
)
def test_errors_of_the_first_form(web: Atelier, body: Any, status: int, message: str) -> None:
    answer = web.http.post(EARLY, content=body if isinstance(body, bytes) else json.dumps(body))
    assert (answer.status_code, answer.json()) == (status, {"error": {"message": message}})


def test_each_dialect_is_told_in_the_logs(house: Atelier, ollama: httpx.Client) -> None:
    run_id = paint(ollama, steps=1).headers["x-workflow-run-id"]
    entries = house.http.get("/v1/workflows/logs?limit=100").json()["data"]
    found = next(entry for entry in entries if entry["workflow_run"]["id"] == run_id)
    assert "ollama" in json.dumps(found)
