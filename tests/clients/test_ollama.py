"""Ollama's clients as people have them, unchanged: for Python, from npm, LangChain's, and Go's on the wire."""

from __future__ import annotations

import base64
import io
import json
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import langchain_ollama
import ollama
import pytest
from PIL import Image

from tests.clients.packages import HAS_NPM, NPM, WITHOUT
from tests.media import picture
from tests.servers import PATIENCE_S, ROOT, Atelier

MODEL = "atelier-shapes"
SMALL: dict[str, Any] = {"width": 64, "height": 64, "steps": 2}
GO_LINE = 8_000_000  # bytes of a line that Go's client reads


@pytest.fixture(scope="module")
def client(atelier: Atelier) -> ollama.Client:
    return ollama.Client(atelier.url, headers=atelier.bearer(atelier.key))


def size_of(image: str | None) -> tuple[int, int]:
    assert image
    with Image.open(io.BytesIO(base64.b64decode(image))) as opened:
        return opened.size


def refusal(call: Any, *words: Any, **more: Any) -> tuple[int, str]:
    with pytest.raises(ollama.ResponseError) as refused:
        call(*words, **more)
    return refused.value.status_code, refused.value.error


def in_memory(client: ollama.Client) -> Any:
    """What is told of our checkpoint; other tests on the same server may have brought others."""
    return next((each for each in client.ps().models if each.model == f"{MODEL}:latest"), None)


def test_python_paints(client: ollama.Client) -> None:
    painted = client.generate(MODEL, "a red circle", options={"seed": 7}, **SMALL)
    assert (painted.done, painted.done_reason, painted.response) == (True, "stop", "")
    assert size_of(painted.image) == (64, 64)
    assert (painted.total_duration or 0) > (painted.load_duration or 0)


def test_python_streams(client: ollama.Client) -> None:
    *lines, last = client.generate(MODEL, "a red circle", stream=True, options={"seed": 7}, **SMALL)
    assert [(line.completed, line.total, line.done) for line in lines] == [
        (None, 2, False),
        (1, 2, False),
        (2, 2, False),
    ]
    assert last.image == client.generate(MODEL, "a red circle", options={"seed": 7}, **SMALL).image


def test_python_changes_pictures(client: ollama.Client) -> None:
    blue, more = picture(size=(72, 64)), {"strength": 0.5, "output_format": "jpeg"}
    changed = client.generate(MODEL, "a blue square", images=[blue, picture()], steps=4, options=more)
    assert size_of(changed.image) == (72, 64)
    assert base64.b64decode(changed.image or "").startswith(b"\xff\xd8\xff")
    mask = base64.b64encode(picture(size=(72, 64), color="white")).decode()
    assert size_of(client.generate(MODEL, "a cat", images=[blue], options={"mask": mask, "seed": 1}, steps=2).image)
    status, said = refusal(client.generate, MODEL, "a cat", images=[b"no picture"])
    assert (status, said) == (400, "Detected file type does not match the specified type. Please verify the file.")


def test_python_loads_and_unloads(client: ollama.Client) -> None:
    assert client.generate(MODEL, keep_alive=300).done_reason == "load"
    loaded = in_memory(client)
    assert loaded is not None
    assert (loaded.name, loaded.context_length) == (f"{MODEL}:latest", 0)
    assert (loaded.size or 0) > 10_000_000
    assert loaded.size_vram == 0
    assert loaded.expires_at
    assert loaded.expires_at.year < 2300
    assert client.generate(MODEL, keep_alive="-1s", stream=False).done_reason == "load"
    assert in_memory(client).expires_at.year > 2300  # type: ignore[union-attr]
    assert [each.done_reason for each in client.generate(MODEL, keep_alive=0, stream=True)] == ["unload"]
    assert in_memory(client) is None
    assert client.generate(MODEL, "a moon", keep_alive=0, **SMALL).image
    assert client.chat(MODEL, keep_alive=0).done_reason == "unload"


def test_python_looks_around(client: ollama.Client) -> None:
    families = {model.model: model.details and model.details.family for model in client.list().models}
    assert families[f"{MODEL}:latest"] == "StableDiffusionPipeline"
    shown = client.show(MODEL)
    assert (shown.modelinfo, shown.capabilities) == ({}, ["image", "vision"])


def test_python_is_refused_what_no_checkpoint_can(client: ollama.Client) -> None:
    hello = [{"role": "user", "content": "hello"}]
    assert refusal(client.chat, MODEL, hello) == (400, f'"{MODEL}" does not support chat')
    assert refusal(client.embed, MODEL, "hello") == (400, f'"{MODEL}" does not support embeddings')
    assert refusal(client.embeddings, MODEL, "hello") == (400, f'"{MODEL}" does not support embeddings')
    assert refusal(client.generate, "nothing", "x") == (404, "model 'nothing' not found")
    assert refusal(lambda: list(client.chat(MODEL, hello, stream=True)))[0] == 400
    assert client.embed(MODEL, "").embeddings == []


@pytest.mark.skipif(not HAS_NPM, reason=WITHOUT)
def test_npm(atelier: Atelier) -> None:
    given = base64.b64encode(picture(size=(64, 64))).decode()
    words = ["node", str(ROOT / "tests/clients/ollama.mjs"), str(NPM), atelier.url, atelier.key, given]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["version"] == {"version": "0.32.5"}
    assert f"{MODEL}:latest" in {model["name"] for model in told["list"]["models"]}
    assert told["show"]["modelfile"].split()[7] == f"{MODEL}:latest"
    assert [line.get("completed") for line in told["stream"]] == [None, 1, 2, None]
    assert told["stream"][-1]["image"] == told["generate"]["image"]
    assert size_of(told["edit"]["image"]) == (64, 64)
    assert f"{MODEL}:latest" in {each["model"] for each in told["ps"]["models"]}
    assert (told["load"]["done_reason"], told["unload"]["done_reason"]) == ("load", "unload")
    assert told["chat"] == {"thrown": f'"{MODEL}" does not support chat', "status": 400}
    assert told["embed"] == told["embeddings"] == {"thrown": f'"{MODEL}" does not support embeddings', "status": 400}
    assert told["unknown"] == {"thrown": "model 'nothing' not found", "status": 404}


def test_langchain(atelier: Atelier) -> None:
    """A program for language models: the picture is in what it tells beside the text."""
    headers = {"headers": atelier.bearer(atelier.key)}
    model = langchain_ollama.OllamaLLM(
        model=MODEL, base_url=atelier.url, client_kwargs=headers, validate_model_on_init=True, seed=7, keep_alive="1m"
    )
    (((made,),)) = model.generate(["a red circle"]).generations
    assert made.text == ""
    assert size_of((made.generation_info or {})["image"]) == (64, 64)
    chat = langchain_ollama.ChatOllama(model=MODEL, base_url=atelier.url, client_kwargs=headers)
    with pytest.raises(ollama.ResponseError, match="does not support chat"):
        chat.invoke("hello")


def go_request(method: str, path: str, key: str, body: bytes = b"") -> bytes:
    """As Go's client writes it, but for the key, which it would not send."""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:11434\r\n"
        "User-Agent: ollama/0.32.5 (amd64 linux) Go/go1.26.0\r\n"
        f"Content-Length: {len(body)}\r\nAccept: application/x-ndjson\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: application/json\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def scanned(server: Atelier, request: bytes) -> tuple[bytes, Iterator[bytes]]:
    """The status line, and the body's lines as `bufio.Scanner` reads them; each chunk of the transfer is one read."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), PATIENCE_S) as connection:
        connection.sendall(request)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, rest = answer.partition(b"\r\n\r\n")
    body = b""
    while b"transfer-encoding: chunked" in head.lower() and rest:
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return head.split(b"\r\n")[0], iter((body or rest).split(b"\n"))


def test_go_on_the_wire(atelier: Atelier) -> None:
    """Its client: `{"model":…}` with zero values and nulls written out, a heartbeat, lines of at most 8 MB."""
    status, _ = scanned(atelier, go_request("HEAD", "/", atelier.key))
    assert status == b"HTTP/1.1 200 OK"
    body = (
        b'{"model":"atelier-shapes","prompt":"a star","suffix":"","system":"","template":"","options":null,'
        b'"width":64,"height":64,"steps":1}'
    )
    status, lines = scanned(atelier, go_request("POST", "/api/generate", atelier.key, body))
    *told, nothing = lines
    assert (status, nothing) == (b"HTTP/1.1 200 OK", b"")
    assert all(0 < len(line) < GO_LINE and line.isascii() for line in told)
    assert [json.loads(line)["done"] for line in told] == [False, False, True]
    status, lines = scanned(atelier, go_request("POST", "/api/generate", atelier.key, b'{"model":"x","prompt":""}'))
    assert (status, [*lines]) == (b"HTTP/1.1 404 Not Found", [b'{"error":"model \'x\' not found"}'])
