"""Ollama's own client for Python keeps models here: it makes, copies and deletes them, of others and of files."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest

from app.checkpoints.catalogue import SHIPPED_FOLDER
from tests.adapters import lora
from tests.clients.test_ollama import size_of
from tests.media import picture
from tests.servers import Atelier, running
from tests.workers.headers import sd2, write

WORDS = "cond_stage_model.model.token_embedding.weight"
SHAPES = SHIPPED_FOLDER / "atelier-shapes"
ZEROS = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    with running(tmp_path_factory.mktemp("library"), worker="none", blob_mb="30") as one:
        yield one


def client_of(server: Atelier, scopes: str) -> ollama.Client:
    key = server.cli("keys", "create", "--scope", scopes)
    return ollama.Client(host=server.url, headers=server.bearer(key))


@pytest.fixture(scope="module")
def keeper(server: Atelier) -> ollama.Client:
    """One who may bring and delete the files of checkpoints."""
    return client_of(server, "run,read,checkpoints")


@pytest.fixture(scope="module")
def caller(server: Atelier) -> ollama.Client:
    """One who may not."""
    return client_of(server, "run,read,stop,files")


def checkpoint(path: Path, words: int = 64, cut: int = 0) -> Path:
    """A small file with the header of a Stable Diffusion 2 checkpoint."""
    return write(path, {**sd2(), WORDS: [words, 1024]}, cut)


def sha256(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def ask(server: Atelier, path: str, body: Any, method: str = "POST") -> httpx.Response:
    """As curl does it: JSON, and no word that it is."""
    content = body if isinstance(body, (bytes, str)) else httpx.Request("POST", "http://x", json=body).content
    return server.http.request(method, path, content=content)


def statuses(lines: Iterable[Any]) -> list[str]:
    return [str(line["status"]) for line in lines]


def refused(call: Any, *words: Any, **named: Any) -> tuple[int, str]:
    with pytest.raises(ollama.ResponseError) as refusal:
        call(*words, **named)
    return refusal.value.status_code, refusal.value.error


# --- presets


def test_a_preset_is_made_copied_and_deleted(caller: ollama.Client, server: Atelier) -> None:
    assert caller.create("Sketch", from_="atelier-shapes", parameters={"steps": 3, "width": "64"}).status == "success"
    told = statuses(caller.create("me/sketch:fine", from_="SKETCH", parameters={"steps": 5}, stream=True))
    assert told[0].startswith("creating new layer sha256:")
    assert told[1:] == ["writing manifest", "success"]
    assert caller.copy("me/sketch:fine", "other").status == "success"
    listed = {each.model: each for each in caller.list().models}
    assert {"Sketch:latest", "me/sketch:fine", "other:latest", "atelier-shapes:latest"} <= listed.keys()
    assert listed["other:latest"].digest == listed["me/sketch:fine"].digest != listed["Sketch:latest"].digest
    shown = caller.show("other")
    assert (shown.details.parent_model, "PARAMETER steps 5\n" in shown.modelfile) == ("Sketch:latest", True)
    assert caller.delete("OTHER:latest").status == "success"
    assert refused(caller.delete, "other") == (404, "model 'other' not found")
    assert caller.delete("sketch").status == caller.delete("me/sketch:fine").status == "success"


@pytest.fixture
def painter(atelier: Atelier) -> Iterator[ollama.Client]:
    """Of the server that all tests share, whose list of models is left as it was."""
    one = ollama.Client(host=atelier.url, headers=atelier.bearer(atelier.key))
    before = {each.model for each in one.list().models}
    yield one
    for each in {each.model for each in one.list().models} - before:
        one.delete(str(each))


def test_a_preset_fills_in_what_a_request_leaves_open(atelier: Atelier, painter: ollama.Client) -> None:
    painter.create("Fixed", from_="atelier-shapes", parameters={"steps": 1, "seed": 7})
    painter.create("fixed:more", from_="fixed", parameters={"seed": 11})
    painter.copy("fixed:more", "copied")
    for model, given, seeds in (
        ("fixed", {"n": 2}, [7, 8]),
        ("FIXED:more", {}, [11]),
        ("copied:latest", {}, [11]),
        ("copied", {"seed": 5}, [5]),
    ):
        body = {"model": model, "prompt": "a red circle", **given}
        answer = atelier.http.post("/v1/images/generations", json=body)
        assert [each["seed"] for each in answer.json()["data"]] == seeds
    painter.create("wide", from_="fixed", parameters={"width": 128, "steps": 2})
    assert size_of(painter.generate("wide", "a moon", stream=False).image) == (128, 64)
    assert size_of(painter.generate("wide", "a moon", images=[picture(size=(72, 64))], stream=False).image) == (72, 64)
    painted = [painter.generate("copied", prompt="a red circle", stream=False).image for _ in range(2)]
    assert painted[0] == painted[1] != painter.generate("fixed", prompt="a red circle", stream=False).image


def test_a_modelfile_of_2024_is_understood(server: Atelier) -> None:
    text = 'FROM atelier-shapes\nPARAMETER steps 4\nPARAMETER cfg_scale 3.5\nSYSTEM """You\npaint."""\nLICENSE MIT\n'
    made = ask(server, "/api/create", {"name": "old", "modelfile": text, "stream": False})
    assert made.json() == {"status": "success"}
    wrong = ask(server, "/api/create", {"name": "old", "modelfile": text + "PARAMETER steps 1000\nTEMPLATE x"})
    assert wrong.json() == {"error": "steps must be an integer from 1 to 150, got '1000'"}


@pytest.mark.parametrize("text", ['say "hi"\nthere', " spaces ", '"quoted"', 'the end"', "# none", "a\n\nb", "x\\ny"])
def test_the_modelfile_that_is_shown_makes_the_same_model(text: str, caller: ollama.Client, server: Atelier) -> None:
    texts = {"system": text, "template": text, "license": [text], "parameters": {"negative_prompt": text, "steps": 3}}
    caller.create("shown", from_="atelier-shapes", **texts)
    before = caller.show("shown").model_dump(exclude={"modified_at"})
    assert ask(server, "/api/create", {"model": "shown", "modelfile": before["modelfile"]}).is_success
    assert caller.show("shown").model_dump(exclude={"modified_at"}) == before


def test_texts_that_are_none_do_no_harm(server: Atelier) -> None:
    half = r'"system": "a\u0000\ud800", "parameters": {"negative_prompt": "\udfff"}}'
    body = '{"model": "odd", "from": "atelier-shapes", ' + half
    assert ask(server, "/api/create", body).text.splitlines()[-1] == '{"status":"success"}'
    told = ask(server, "/api/create", r'{"model": "\ud800", "from": "atelier-shapes"}').json()
    assert told == {"error": "invalid model name"}
    assert ask(server, "/api/delete", r'{"model": "\ud800\u0000"}', "DELETE").status_code == 404


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"temperature": 0.5}, "parameter 'temperature' is taken by no tool here; there are clip_skip, an integer"),
        ({"steps": 500}, "steps must be an integer from 1 to 150, got 500"),
        ({"width": 65}, "width must be an integer from 64 to 2048 and a multiple of 8, got 65"),
        ({"scheduler": "sorcery"}, "scheduler must be one of euler, "),
        ({"loras": "ink:0.5"}, "There is no LoRA 'ink'. None is installed."),
        ({"vae": "nope"}, "There is no VAE 'nope'."),
    ],
)
def test_parameters_that_no_tool_takes_are_refused(parameters: dict, says: str, caller: ollama.Client) -> None:
    status, error = refused(caller.create, "wrong", from_="atelier-shapes", parameters=parameters)
    assert (status, error[: len(says)]) == (400, says)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("POST", "/api/create", b"", 400, "missing request body"),
        ("POST", "/api/create", {"model": "x"}, 400, "neither 'from' or 'files' was specified"),
        ("POST", "/api/create", {"from": "atelier-shapes"}, 400, "invalid model name"),
        ("POST", "/api/create", {"model": "a b", "from": "atelier-shapes"}, 400, "invalid model name"),
        ("POST", "/api/create", {"model": "x", "from": "nope"}, 404, "model 'nope' not found"),
        ("POST", "/api/create", {"Model": "x", "FROM": "nope", "name": None}, 404, "model 'nope' not found"),
        (
            "POST",
            "/api/create",
            {"model": "x", "from": 1},
            400,
            "json: cannot unmarshal number into Go struct field CreateRequest.from of type string",
        ),
        ("POST", "/api/copy", {"source": "a/", "destination": "b"}, 400, 'source "a/" is invalid'),
        ("POST", "/api/copy", {"source": "atelier-shapes", "destination": ""}, 400, 'destination "" is invalid'),
        ("POST", "/api/copy", {"source": "atelier-shapes", "destination": "a b"}, 400, 'destination "a b" is invalid'),
        ("POST", "/api/copy", {"source": "nope", "destination": "b"}, 404, 'model "nope" not found'),
        ("DELETE", "/api/delete", {"model": "nope:v1"}, 404, "model 'nope:v1' not found"),
        ("DELETE", "/api/delete", {"name": "nope"}, 404, "model 'nope' not found"),
        ("DELETE", "/api/delete", {"name": ""}, 400, 'name "" is invalid'),
        ("DELETE", "/api/delete", [], 400, "json: cannot unmarshal array into Go value of type api.DeleteRequest"),
    ],
)
def test_errors_are_ollamas(method: str, path: str, body: Any, status: int, error: str, server: Atelier) -> None:
    answer = ask(server, path, body, method)
    assert (answer.status_code, answer.json()) == (status, {"error": error})


def test_what_nobody_foresaw_is_the_last_line_of_a_stream(keeper: ollama.Client, server: Atelier) -> None:
    keeper.create("spoiled", from_="atelier-shapes")
    told = []
    for parameters in ("{", "{}"):
        with sqlite3.connect(server.data_dir / "atelier.db", timeout=10) as database:
            database.execute("UPDATE presets SET parameters = ? WHERE folded = 'spoiled:latest'", (parameters,))
        answer = keeper._client.post("/api/pull", json={"model": "spoiled"})
        told.append(answer.text.replace('{"status":"pulling manifest"}\n', "", 1))
    assert told == ['{"error":"Internal server error"}\n', '{"status":"success"}\n']
    keeper.delete("spoiled")


def test_each_app_has_presets_of_its_own(caller: ollama.Client, server: Atelier, echo: ollama.Client) -> None:
    caller.create("mine", from_="atelier-shapes", parameters={"steps": 2})
    assert refused(echo.copy, "mine", "yours") == (404, 'model "mine" not found')
    echo.create("mine", from_="atelier-shapes", parameters={"steps": 4})
    echo.delete("mine")
    assert caller.copy("mine", "mine-too").status == "success"


@pytest.fixture(scope="module")
def echo(server: Atelier) -> ollama.Client:
    key = server.app_key(Path(__file__).parents[2] / "workflows" / "echo.yml")
    return ollama.Client(host=server.url, headers=server.bearer(key))


# --- files


def test_a_posted_file_becomes_a_checkpoint(keeper: ollama.Client, server: Atelier, tmp_path: Path) -> None:
    file = checkpoint(tmp_path / "a.safetensors")
    assert keeper.create_blob(file) == sha256(file)
    told = statuses(keeper.create("posted", files={"a.safetensors": sha256(file)}, stream=True))
    assert told == [f"creating new layer {sha256(file)}", "writing manifest", "success"]
    assert (server.checkpoints_dir / "posted.safetensors").read_bytes() == file.read_bytes()
    assert keeper.create("posted", files={"a.safetensors": sha256(file)}).status == "success"
    assert keeper.create("of-it", from_="posted", parameters={"steps": 4}).status == "success"
    told = refused(keeper.delete, "posted")
    assert told == (400, "model 'posted' is what other models paint with: of-it:latest; delete them first")
    keeper.delete("of-it")
    keeper.delete("posted")
    assert not (server.checkpoints_dir / "posted.safetensors").exists()
    assert refused(keeper.create, "of-it", from_="posted") == (404, "model 'posted' not found")


def test_a_diffusers_folder_is_made_of_its_files(keeper: ollama.Client, server: Atelier) -> None:
    paths = {str(path.relative_to(SHAPES)): path for path in SHAPES.rglob("*") if path.is_file()}
    files = {name: keeper.create_blob(path) for name, path in paths.items()}
    keeper.create("me/shapes:v2", files=files, parameters={"steps": 2}, template="{{ .Prompt }}", license=["MIT"])
    assert (server.checkpoints_dir / "me-shapes-v2" / "unet" / "config.json").is_file()
    assert keeper.create("again", from_="ME/shapes:V2").status == "success"


def test_a_new_checkpoint_paints_with_the_next_request(atelier: Atelier, painter: ollama.Client) -> None:
    maker = client_of(atelier, "run,read,checkpoints")
    paths = {str(path.relative_to(SHAPES)): path for path in SHAPES.rglob("*") if path.is_file()}
    maker.create("brought", files={name: maker.create_blob(path) for name, path in paths.items()})
    try:
        assert size_of(painter.generate("brought", "a moon", steps=1, stream=False).image) == (64, 64)
    finally:
        maker.delete("brought")
    atelier.until("it has left memory, too", lambda: "brought:latest" not in {each.model for each in maker.ps().models})
    assert refused(painter.generate, "brought", "a moon") == (404, "model 'brought' not found")


def test_what_is_no_checkpoint_is_refused_by_name(keeper: ollama.Client, server: Atelier, tmp_path: Path) -> None:
    lora(tmp_path, "ink")
    [ink] = tmp_path.rglob("ink.safetensors")
    cut = checkpoint(tmp_path / "cut.safetensors", cut=1000)
    for file, says in ((ink, "mine.safetensors is a LoRA: it changes"), (cut, "mine.safetensors is cut short: ")):
        status, error = refused(keeper.create, "mine", files={file.name: keeper.create_blob(file)})
        assert (status, error[: len(says)]) == (400, says)
    assert not list(server.checkpoints_dir.glob("*mine*"))
    assert not list(server.checkpoints_dir.glob(".creating*"))


def test_a_posted_lora_is_put_on(keeper: ollama.Client, server: Atelier, tmp_path: Path) -> None:
    lora(tmp_path, "ink")
    [ink] = tmp_path.rglob("ink.safetensors")
    adapters = {"ink.safetensors": keeper.create_blob(ink)}
    assert keeper.create("inked", from_="atelier-shapes", adapters=adapters).status == "success"
    assert (server.checkpoints_dir / "loras" / "ink.safetensors").is_file()
    assert keeper.create("inked", from_="atelier-shapes", parameters={"loras": ["ink:0.5"]}).status == "success"


def test_a_preset_of_a_files_name_gives_way_to_it(keeper: ollama.Client, tmp_path: Path) -> None:
    keeper.create("swapped", from_="atelier-shapes", parameters={"steps": 3})
    file = checkpoint(tmp_path / "a", words=70)
    files = {"a.safetensors": keeper.create_blob(file)}
    keeper.create("swapped", files=files, parameters={"guidance_scale": 2})
    shown = keeper.show("swapped")
    assert ("guidance_scale 2" in shown.modelfile, "steps 3" in shown.modelfile) == (True, False)
    assert (shown.details.parent_model, "FROM swapped:latest\n" in shown.modelfile) == ("swapped:latest", True)
    keeper.create("swapped", files=files)
    assert (keeper.show("swapped").details.parent_model or "") == ""


def test_another_checkpoint_is_not_written_over(keeper: ollama.Client, server: Atelier, tmp_path: Path) -> None:
    one, other = checkpoint(tmp_path / "a"), checkpoint(tmp_path / "b", words=65)
    keeper.create("taken", files={"a.safetensors": keeper.create_blob(one)})
    told = refused(keeper.create, "Taken", files={"b.safetensors": keeper.create_blob(other)})
    assert told[0] == 400
    assert told[1].startswith("there is a checkpoint 'Taken' already")
    assert (server.checkpoints_dir / "taken.safetensors").read_bytes() == one.read_bytes()


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"a": ZEROS}, f"blob not found for a (digest {ZEROS}): post it first"),
        ({"a": "sha256:abc"}, "invalid digest format"),
        (
            {"a": ZEROS, "b": ZEROS},
            "a checkpoint is one file, or a diffusers folder with its model_index.json; got a, b",
        ),
    ],
)
def test_files_that_can_not_be_are_told(files: dict, says: str, keeper: ollama.Client) -> None:
    assert refused(keeper.create, "x", files=files) == (400, says)


@pytest.mark.parametrize("path", ["../out.safetensors", "/etc/x", "unet/../../x", ".hidden", "a/b/c/d"])
def test_no_path_leads_out_of_the_folder(path: str, keeper: ollama.Client, server: Atelier, tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"{}")
    digest = keeper.create_blob(tmp_path / "b")
    told = refused(keeper.create, "x", files={"model_index.json": digest, path: digest})
    assert told == (400, f"{path!r} can't be the path of a checkpoint's file")


def test_blobs_are_asked_for_and_checked_while_they_come(keeper: ollama.Client, server: Atelier) -> None:
    key = keeper._client.headers["authorization"]
    http = httpx.Client(base_url=server.url, headers={"authorization": key})
    digest = "sha256:" + hashlib.sha256(b"bytes").hexdigest()
    assert http.head(f"/api/blobs/{digest}").status_code == 404
    wrong = http.post(f"/api/blobs/{digest}", content=b"other")
    got = hashlib.sha256(b"other").hexdigest()
    said = f'digest mismatch, expected "{digest}", got "sha256:{got}"'
    assert (wrong.status_code, wrong.json()) == (400, {"error": said})
    assert [http.post(f"/api/blobs/{digest}", content=b"bytes").status_code for _ in range(2)] == [201, 200]
    assert http.head(f"/api/blobs/{digest}").status_code == 200
    assert http.post("/api/blobs/sha256:0", content=b"").json() == {"error": "invalid digest format"}
    large = http.post(f"/api/blobs/{ZEROS}", content=(bytes(1 << 20) for _ in range(31)))
    assert (large.status_code, large.json()["error"][:16]) == (413, "A blob may have ")
    assert [path.name[:7] for path in (server.checkpoints_dir / ".blobs").iterdir() if path.name.startswith(".")] == []


def test_files_take_a_scope_that_callers_have_not(caller: ollama.Client, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    for call, words in (
        (caller.create_blob, [tmp_path / "a"]),
        (lambda: caller.create("x", files={"a": ZEROS}), []),
        (lambda: caller.create("x", from_="atelier-shapes", adapters={"a": ZEROS}), []),
        (caller.delete, ["atelier-shapes"]),
    ):
        status, error = refused(call, *words)
        assert (status, "lacks the scope 'checkpoints'" in error) == (403, True)


def test_what_is_listed_can_be_deleted_whatever_its_file_is_called(keeper: ollama.Client, server: Atelier) -> None:
    checkpoint(server.checkpoints_dir / "my own (v2).safetensors")
    assert "my own (v2):latest" in {each.model for each in keeper.list().models}
    assert keeper.delete("my own (v2):latest").status == "success"
    assert not (server.checkpoints_dir / "my own (v2).safetensors").exists()


def test_what_ships_stays(keeper: ollama.Client) -> None:
    told = refused(keeper.delete, "atelier-shapes")
    assert told == (403, "model 'atelier-shapes' ships with Atelier and can't be deleted")


def test_openais_clients_delete_models_too(caller: ollama.Client, server: Atelier) -> None:
    caller.create("me/gone:v1", from_="atelier-shapes", parameters={"steps": 2})
    gone = server.http.delete("/v1/models/me%2Fgone:v1")
    assert (gone.status_code, gone.json()) == (200, {"id": "me/gone:v1", "object": "model", "deleted": True})
    again = server.http.delete("/v1/models/me%2Fgone:v1")
    assert (again.status_code, again.json()["error"]["code"]) == (404, "model_not_found")
