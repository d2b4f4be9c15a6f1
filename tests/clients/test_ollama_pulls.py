"""Ollama's own client for Python pulls models from servers that break off, lie about hashes, or must not be asked.

And it pushes models: to the hub with its own library, to other servers by PUT.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ollama
import pytest

from tests.adapters import lora
from tests.clients.packages import HAS_NPM, NPM, WITHOUT
from tests.clients.test_ollama_library import checkpoint, client_of, refused, statuses
from tests.hub import Hub, hub_running
from tests.servers import PATIENCE_S, ROOT, Atelier, start


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with hub_running() as one:
        yield one


@pytest.fixture(autouse=True)
def calm(hub: Hub) -> Iterator[None]:
    """A test that fails leaves no trouble to the next."""
    yield
    hub.go_on.set()
    hub.cuts, hub.statuses, hub.holds_at = [], [], None
    hub.go_on.clear()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pulls")


def begin(folder: Path, hub: Hub, **settings: str) -> Atelier:
    """A server that may ask the hub, and `localhost`, but not the addresses of this machine."""
    env = {"HF_ENDPOINT": hub.address, "HF_TOKEN": "hf_mine"}
    return start(folder, env_too=env, worker="none", outbound_allow="localhost", **settings)


@pytest.fixture(scope="module")
def server(folder: Path, hub: Hub) -> Iterator[Atelier]:
    one = begin(folder, hub)
    yield one
    one.stop()


@pytest.fixture(scope="module")
def client(server: Atelier) -> ollama.Client:
    return client_of(server, "run,read,checkpoints")


@pytest.fixture
def content(tmp_path: Path, request: pytest.FixtureRequest) -> bytes:
    """A checkpoint's, another one for each test."""
    words = 64 + sum(request.node.name.encode()) % 1000
    return checkpoint(tmp_path / "made.safetensors", words=words).read_bytes()


def lines(answer: Any) -> list[dict[str, Any]]:
    return [each.model_dump(exclude_none=True) for each in answer]


def test_a_repository_is_pulled_and_known_by_the_name_that_was_asked_for(
    hub: Hub, client: ollama.Client, content: bytes
) -> None:
    hub.repositories["me/one"] = {"README.md": b"", "one-v1.safetensors": content}
    digest = hashlib.sha256(content).hexdigest()
    told = lines(client.pull("hf.co/me/one", stream=True))
    assert told[0] == {"status": "pulling manifest"}
    of_file = [each for each in told if each["status"] == f"pulling {digest[:12]}"]
    assert of_file[0] == {"status": f"pulling {digest[:12]}", "digest": f"sha256:{digest}", "total": len(content)}
    assert of_file[-1]["completed"] == of_file[-1]["total"] == len(content)
    assert statuses(told)[-3:] == ["verifying sha256 digest", "writing manifest", "success"]
    for name in ("hf.co/me/one", "HF.co/me/one:latest", "one-v1"):
        assert client.create("of-it", from_=name, parameters={"steps": 2}).status == "success"
    assert client.pull("hf.co/me/one").status == client.pull("one-v1").status == "success"
    assert client.pull("registry.ollama.ai/library/One-v1:latest").status == "success"
    assert len([path for path, _ in hub.asked if path.startswith("/files/me/one/")]) == 1


def test_one_file_of_several_is_named_behind_a_colon(hub: Hub, client: ollama.Client, content: bytes) -> None:
    hub.repositories["me/two"] = {"a.safetensors": content, "b.safetensors": content[::-1]}
    status, error = refused(client.pull, "me/two")
    assert (status, error[:55]) == (400, "me/two has several files: say which, as me/two:a.safete")
    assert client.pull("me/two:a.safetensors").status == "success"
    assert client.create("of-two", from_="me/two:a.safetensors").status == "success"


def test_a_pull_that_is_cut_goes_on_where_it_was(hub: Hub, client: ollama.Client, content: bytes) -> None:
    hub.repositories["me/cut"] = {"cut.safetensors": content}
    hub.cuts, begun = [1000], len(hub.ranges_asked)
    assert client.pull("me/cut").status == "success"
    assert hub.ranges_asked[begun:] == [None, "bytes=1000-"]


def test_two_pulls_are_one_and_go_on_without_their_clients(
    hub: Hub, server: Atelier, client: ollama.Client, content: bytes
) -> None:
    hub.repositories["me/shared"] = {"shared.safetensors": content}
    hub.holds_at, begun = 5000, len(hub.ranges_asked)
    headers = dict(client._client.headers)
    with server.http.stream("POST", "/api/pull", content=b'{"model":"me/shared"}', headers=headers) as first:
        read = first.iter_lines()
        while "completed" not in json.loads(next(read)):
            pass
    second = iter(client.pull("hf.co/me/shared", stream=True))
    assert next(second).status == "pulling manifest"
    hub.go_on.set()
    assert statuses(second)[-1] == "success"
    assert hub.ranges_asked[begun:] == [None]


def test_a_file_that_is_called_as_any_other_gets_its_repositorys_name(
    hub: Hub, client: ollama.Client, server: Atelier, content: bytes
) -> None:
    hub.repositories["me/alpha"] = {"model.safetensors": content}
    hub.repositories["me/beta"] = {"diffusion_pytorch_model.fp16.safetensors": content}
    for name in ("alpha", "beta"):
        assert client.pull(f"me/{name}").status == "success"
        assert (server.checkpoints_dir / f"{name}.safetensors").is_file()


def test_damaged_bytes_are_not_kept(hub: Hub, client: ollama.Client, server: Atelier, content: bytes) -> None:
    hub.repositories["me/damaged"] = {"damaged.safetensors": content}
    hub.damaged.add("me/damaged/damaged.safetensors")
    status, error = refused(client.pull, "me/damaged")
    assert (status, "came damaged: its SHA-256 is" in error) == (400, True)
    told = iter(client.pull("me/damaged", stream=True))
    with pytest.raises(ollama.ResponseError, match="came damaged"):
        statuses(told)
    assert not list(server.checkpoints_dir.rglob("*damaged*"))


def test_a_plain_address_is_pulled_if_it_may_be_asked(hub: Hub, client: ollama.Client, content: bytes) -> None:
    hub.files["plain.safetensors"] = content
    port = hub.server_address[1]
    assert client.pull(f"http://localhost:{port}/files/plain.safetensors").status == "success"
    assert client.pull(f"http://localhost:{port}/files/plain.safetensors").status == "success"
    begun = len(hub.asked)
    status, error = refused(client.pull, f"http://127.0.0.1:{port}/files/plain.safetensors")
    assert (status, error) == (400, "model leads to an address that is not public: 127.0.0.1")
    assert len(hub.asked) == begun


def test_the_server_of_a_name_is_asked_too(hub: Hub, client: ollama.Client, content: bytes) -> None:
    hub.files["named.safetensors"] = content
    name = f"localhost:{hub.server_address[1]}/files/named"
    assert client.pull(name, insecure=True).status == "success"
    assert client.create("of-named", from_=name, parameters={"steps": 2}).status == "success"


def test_a_lora_lies_among_the_loras(hub: Hub, client: ollama.Client, server: Atelier, tmp_path: Path) -> None:
    lora(tmp_path, "pulled-ink")
    hub.repositories["me/ink"] = {"pulled-ink.safetensors": (tmp_path / "loras/pulled-ink.safetensors").read_bytes()}
    begun = len(hub.ranges_asked)
    for _ in range(2):
        assert client.pull("me/ink").status == "success"
    assert (server.checkpoints_dir / "loras" / "pulled-ink.safetensors").is_file()
    assert hub.ranges_asked[begun:] == [None]


def test_what_is_no_checkpoint_and_what_has_its_name_is_refused(
    hub: Hub, client: ollama.Client, server: Atelier, content: bytes
) -> None:
    hub.repositories["me/page"] = {"page.safetensors": b"<html>" * 100}
    assert refused(client.pull, "me/page")[1].startswith("page.safetensors is a web page, not a checkpoint")
    hub.repositories["me/first"] = {"same.safetensors": content}
    hub.repositories["me/second"] = {"same.safetensors": content + b"more"}
    assert client.pull("me/first").status == "success"
    status, error = refused(client.pull, "me/second")
    assert (status, error) == (
        400,
        "there is a checkpoint 'same' already, with other content; delete it first",
    )
    assert not list(server.checkpoints_dir.glob(".pulling/*"))


@pytest.mark.parametrize(
    ("name", "status", "says"),
    [
        ("a b/c", 400, "invalid model name"),
        ("ftp://x/y", 400, "invalid model name"),
        ("../../etc/passwd", 400, "invalid model name"),
        ("gemma3", 404, "pull model manifest: file does not exist: there is no 'gemma3' here"),
        ("nobody/nothing", 404, "There is no nobody/nothing at http://127.0.0.1:"),
    ],
)
def test_what_can_not_be_pulled_is_told(name: str, status: int, says: str, client: ollama.Client) -> None:
    told, error = refused(client.pull, name)
    assert (told, error[: len(says)]) == (status, says)


def test_a_key_without_the_scope_pulls_nothing(server: Atelier) -> None:
    status, error = refused(client_of(server, "run,read").pull, "me/one")
    assert (status, "lacks the scope 'checkpoints'" in error) == (403, True)


# --- pushes


def test_a_model_is_pushed_to_the_hub(hub: Hub, client: ollama.Client, server: Atelier, content: bytes) -> None:
    (server.checkpoints_dir / "own.safetensors").write_bytes(content)
    client.copy("own", "me/pushed")
    digest, told = hashlib.sha256(content).hexdigest(), lines(client.push("me/pushed", stream=True))
    assert statuses(told)[0] == "retrieving manifest"
    assert statuses(told)[-2:] == ["pushing manifest", "success"]
    of_file = [each for each in told if each["status"] == f"pushing {digest[:12]}"]
    assert of_file[-1] == {**of_file[0], "completed": len(content)}
    assert hub.repositories["me/pushed"] == {"own.safetensors": content}
    assert hub.private["me/pushed"]
    client.copy("own", "hf.co/me/pushed:v2")
    assert client.push("hf.co/me/pushed:v2").status == "success"
    assert set(hub.repositories["me/pushed"]) == {"own.safetensors", "pushed-v2.safetensors"}


def test_a_diffusers_folder_is_pushed_as_one(hub: Hub, client: ollama.Client) -> None:
    client.copy("atelier-shapes", "me/folder")
    assert client.push("me/folder").status == "success"
    assert {"model_index.json", "unet/config.json", "text_encoder/config.json"} <= set(hub.repositories["me/folder"])
    assert client.pull("hf.co/me/folder").status == "success"


def test_a_server_that_takes_files_is_pushed_to(
    hub: Hub, client: ollama.Client, server: Atelier, content: bytes
) -> None:
    port = hub.server_address[1]
    (server.checkpoints_dir / "mine.safetensors").write_bytes(content)
    client.copy("mine", f"localhost:{port}/files/sent:v1")
    assert statuses(client.push(f"localhost:{port}/files/sent:v1", insecure=True, stream=True))[-1] == "success"
    assert hub.files["sent-v1.safetensors"] == content
    body = {"model": "mine", "to": f"http://localhost:{port}/files/signed?key=1", "stream": False}
    headers = {"authorization": client._client.headers["authorization"]}
    assert server.http.post("/api/push", json=body, headers=headers).json() == {"status": "success"}
    assert hub.files["signed"] == content
    hub.statuses = [507]
    assert server.http.post("/api/push", json=body, headers=headers).status_code == 503


def test_what_can_not_be_pushed_is_told(hub: Hub, client: ollama.Client, server: Atelier) -> None:
    begun = len(hub.asked)
    client.copy("atelier-shapes", f"127.0.0.1:{hub.server_address[1]}/files/x")
    for name, status, says in (
        ("me/nothing", 404, "model 'me/nothing' not found"),
        ("atelier-shapes", 400, "'atelier-shapes:latest' says of no place: copy it to owner/name"),
        (f"127.0.0.1:{hub.server_address[1]}/files/x", 400, "model leads to an address that is not public: 127.0.0.1"),
    ):
        told, error = refused(client.push, name, insecure=True)
        assert (told, error[: len(says)]) == (status, says)
    headers = {"authorization": client._client.headers["authorization"]}
    nameless = server.http.post("/api/push", content=b"{}", headers=headers)
    assert (nameless.status_code, nameless.json()) == (400, {"error": "model is required"})
    assert len(hub.asked) == begun


@pytest.mark.skipif(not HAS_NPM, reason=WITHOUT)
def test_npm_keeps_models(hub: Hub, server: Atelier, client: ollama.Client, content: bytes) -> None:
    hub.repositories["npm/one"] = {"npm-one.safetensors": content}
    key = client._client.headers["authorization"].removeprefix("Bearer ")
    script = str(ROOT / "tests/clients/ollama_library.mjs")
    words = ["node", script, str(NPM), server.url, key, "npm/one", "npm/pushed"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    for name in ("create", "copy", "push", "pull", "delete"):
        assert told[name] == {"status": "success"}, name
    for name in ("createStream", "pushStream", "pullStream"):
        assert told[name][-1] == "success", name
    assert {"npm:latest", "npm/pushed:latest"} <= set(told["list"])
    assert told["missing"] == {"thrown": "model 'npm/pushed' not found", "status": 404}
    assert told["wrong"] == {"thrown": "steps must be an integer from 1 to 150, got 0", "status": 400}


# --- the end of a server


def test_of_two_servers_one_pulls_and_the_other_takes_over_when_it_is_killed(
    hub: Hub, folder: Path, server: Atelier, client: ollama.Client, content: bytes, tmp_path: Path
) -> None:
    hub.repositories["me/killed"] = {"killed.safetensors": content}
    hub.holds_at, begun = 70_000, len(hub.ranges_asked)
    settings = {"checkpoints_dir": str(server.checkpoints_dir), "ollama_port": "0", "open_to_loopback": "true"}
    other = begin(tmp_path, hub, **settings)
    try:
        heard = [iter(client.pull("me/killed", stream=True))]
        until_half(heard[0])
        heard.append(iter(ollama.Client(host=other.urls["Ollama"]).pull("me/killed", stream=True)))
        until_half(heard[1])  # which a program on the same machine hears without a key
        assert hub.ranges_asked[begun:] == [None]
        server.kill()
        hub.go_on.set()
        assert statuses(heard[1])[-1] == "success"
    finally:
        other.stop()
    assert int(str(hub.ranges_asked[-1]).removeprefix("bytes=").rstrip("-")) >= 65536
    assert (server.checkpoints_dir / "killed.safetensors").read_bytes() == content


def until_half(told: Iterator[Any]) -> None:
    while not (next(told).completed or 0) >= 65536:
        pass
