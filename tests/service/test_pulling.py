"""Checkpoints come from servers that break off, change their files, or want a licence accepted first."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from typer.testing import CliRunner

from app import settings
from app.checkpoint_commands import checkpoints
from app.checkpoints import download
from app.checkpoints.alone import alone
from app.checkpoints.catalogue import SHIPPED_FOLDER
from app.checkpoints.download import Download
from app.checkpoints.hashes import Hashes
from app.checkpoints.sources import Hub, Remote, find_source
from app.domain.resident import Resident
from app.errors import AtelierError, InvalidParam, NotFound, Unavailable
from app.installation import open_store
from app.store.residents import replace_residents
from tests.hub import Hub as Server
from tests.hub import hub_running

CONTENT = random.Random(1).randbytes(300_000)
FOLDER = {
    *("model_index.json", "unet/config.json", "unet/a.safetensors", "unet/a.fp16.safetensors", "vae/config.json"),
    *("vae/a.safetensors", "text_encoder/config.json", "text_encoder/a.safetensors", "tokenizer/merges.txt"),
}
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    with hub_running() as hub:
        hub.files["a.safetensors"] = CONTENT
        yield hub


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=10) as one:
        yield one


def remote(server: Server, sha256: str = "") -> Remote:
    return Remote(f"{server.address}/files/a.safetensors", "a.safetensors", sha256=sha256)


def fetch(client: httpx.Client, what: Remote, target: Path, tries: int = 3) -> str:
    return Download(client, {}, tries, wait_s=0.001).fetch(what, target, lambda done, of: None)


def test_a_file_comes_whole_and_its_hash_is_told(server, client, tmp_path):
    seen = []
    digest = Download(client, {}).fetch(remote(server), tmp_path / "a", lambda done, of: seen.append((done, of)))
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert digest == SHA256
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_breaks_off_goes_on_where_it_was(server, client, tmp_path):
    server.cuts = [100_000, 50_000, 1]
    assert fetch(client, remote(server), tmp_path / "a") == SHA256
    assert server.ranges_asked == [None, "bytes=100000-", "bytes=150000-", "bytes=150001-"]


def test_another_call_goes_on_where_the_last_one_gave_up(server, client, tmp_path):
    server.cuts = [1000, 0, 0, 0]
    with pytest.raises(Unavailable, match=r"broke off after 1,000 bytes .*The same command goes on from there"):
        fetch(client, remote(server), tmp_path / "a")
    assert not (tmp_path / "a").exists()
    server.cuts.clear()
    assert fetch(client, remote(server), tmp_path / "a") == SHA256
    assert server.ranges_asked[-1] == "bytes=1000-"


def test_progress_gives_new_patience(server, client, tmp_path):
    server.cuts = [30_000] * 9
    assert fetch(client, remote(server), tmp_path / "a", tries=2) == SHA256


def test_a_bad_moment_of_the_server_is_waited_for(server, client, tmp_path):
    server.statuses = [503, 429]
    assert fetch(client, remote(server), tmp_path / "a") == SHA256


def test_a_file_that_has_changed_meanwhile_comes_from_its_beginning(server, client, tmp_path):
    server.cuts = [1000, 0, 0]
    with pytest.raises(Unavailable):
        fetch(client, remote(server), tmp_path / "a")
    server.files["a.safetensors"] = CONTENT[::-1]
    fetch(client, remote(server), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("lack", ["etags", "ranges"])
def test_a_server_without_parts_sends_it_all_again(lack, server, client, tmp_path):
    setattr(server, lack, False)
    server.cuts = [1000]
    assert fetch(client, remote(server), tmp_path / "a") == SHA256


def test_with_a_known_hash_no_mark_is_needed(server, client, tmp_path):
    server.etags, server.cuts = False, [1000]
    assert fetch(client, remote(server, SHA256), tmp_path / "a") == SHA256
    assert server.ranges_asked == [None, "bytes=1000-"]


def test_a_part_that_has_all_of_it_needs_nothing_more(server, client, tmp_path):
    (tmp_path / "a.part").write_bytes(CONTENT)
    (tmp_path / "a.part.json").write_text(json.dumps({"sha256": SHA256}))
    assert fetch(client, remote(server, SHA256), tmp_path / "a") == SHA256


def test_damaged_bytes_are_not_kept(server, client, tmp_path):
    with pytest.raises(InvalidParam, match=f"came damaged: its SHA-256 is {SHA256}, not {'0' * 64}"):
        fetch(client, remote(server, "0" * 64), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_something_else_is_not_gone_on_with(server, client, tmp_path):
    (tmp_path / "a.part").write_bytes(b"x" * 1000)
    (tmp_path / "a.part.json").write_text(json.dumps({"sha256": "1" * 64}))
    assert fetch(client, remote(server, SHA256), tmp_path / "a") == SHA256
    (tmp_path / "b.part").write_bytes(b"x" * 400_000)
    (tmp_path / "b.part.json").write_text(json.dumps({"sha256": SHA256}))
    assert fetch(client, remote(server, SHA256), tmp_path / "b") == SHA256


def test_a_disk_without_room_is_said_before_a_byte_is_written(server, client, tmp_path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(Unavailable, match=r"has 0\.00 GB of room"):
        fetch(client, remote(server), tmp_path / "a")
    assert (tmp_path / "a.part").stat().st_size == 0


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (404, NotFound, "There is no a.safetensors"),
        (403, InvalidParam, "accepted its licence"),
        (418, Unavailable, "418"),
    ],
)
def test_what_the_server_refuses_is_told_at_once(status, error, says, server, client, tmp_path):
    server.statuses = [status]
    with pytest.raises(error, match=says):
        fetch(client, remote(server), tmp_path / "a")
    assert len(server.asked) == 1


# --- repositories


def source(server: Server, client: httpx.Client, asked: str, token: str = "", **more: bool):
    return find_source(client, Hub(server.address, token), asked, **more)


def test_the_one_file_of_a_repository_is_meant(server, client):
    server.repositories["me/one"] = {"README.md": b"", "one.safetensors": CONTENT, "sub/other.safetensors": b""}
    found = source(server, client, "me/one")
    assert (found.name, found.licence, found.files[0].sha256) == ("one", "openrail++", SHA256)
    assert source(server, client, "me/one@v2:sub/other.safetensors").files[0].filename == "other.safetensors"


def test_of_several_files_one_must_be_said(server, client):
    server.repositories["me/two"] = {"a.safetensors": b"", "b.ckpt": b"", "model_index.json": b"{}"}
    with pytest.raises(InvalidParam, match=r"as me/two:a\.safetensors, .* --folder\. It has a\.safetensors, b\.ckpt"):
        source(server, client, "me/two")
    assert source(server, client, "me/two:b.ckpt").files[0].filename == "b.ckpt"
    assert source(server, client, "me/two", folder=True).is_folder


def test_a_diffusers_folder_comes_in_the_smallest_of_its_versions(server, client):
    wanted = FOLDER - {"unet/a.safetensors"}
    others = {"unet/a.bin", "unet/a.non_ema.safetensors", "safety_checker/a.safetensors", "image.png"}
    server.repositories["me/folder"] = dict.fromkeys(FOLDER | others, b"{}")
    assert {each.path for each in source(server, client, "me/folder").files} == wanted


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        ("nobody/nothing", NotFound, "There is no nobody/nothing .* a token in HF_TOKEN"),
        ("me/empty", NotFound, "has no checkpoint"),
        ("me/empty:x.safetensors", NotFound, r"has no file 'x\.safetensors'. It has notes\.md"),
        ("just-a-name", InvalidParam, "neither an address"),
        ("ftp://x/y", InvalidParam, "neither an address"),
        ("../../etc/passwd", InvalidParam, "neither an address"),
    ],
)
def test_what_can_not_be_found_is_told_with_the_way_out(asked, error, says, server, client):
    server.repositories["me/empty"] = {"notes.md": b""}
    with pytest.raises(error, match=says):
        source(server, client, asked)


def test_a_server_that_is_no_hub_is_told(client, server):
    with pytest.raises(Unavailable, match="can't be asked"):
        find_source(client, Hub("http://127.0.0.1:1"), "me/one")


# --- the command


@pytest.fixture
def command(server, tmp_path, monkeypatch):
    """Runs `atelier checkpoints …`; its output, and its error's sentence. `.folder` is where checkpoints lie."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings.Settings, "model_config", settings.Settings.model_config | {"env_file": None})
    for name, value in {
        "ATELIER_DATA_DIR": str(tmp_path / "data"),
        "ATELIER_CHECKPOINTS_DIR": str(tmp_path / "models"),
        "HF_ENDPOINT": server.address,
        "HF_TOKEN": "",
    }.items():
        monkeypatch.setenv(name, value)

    def run(*words: str) -> str:
        done = CliRunner().invoke(checkpoints, list(words))
        if isinstance(done.exception, AtelierError):
            return done.exception.message
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.output

    run.folder = tmp_path / "models"
    return run


def shipped_files() -> dict[str, bytes]:
    folder = SHIPPED_FOLDER / "atelier-shapes"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_repository_is_pulled_listed_and_shown(server, command):
    server.repositories["me/shapes-too"] = shipped_files()
    server.cuts = [1000, 20_000]
    told = command("pull", "me/shapes-too")
    assert "Licence: openrail++" in told
    assert "It is of the family shapes; requests call it shapes-too." in told
    assert (command.folder / "shapes-too" / "unet" / "config.json").is_file()
    listed = command()
    assert [line.split()[:4] for line in listed.splitlines() if "shapes" in line][1][:2] == ["shapes-too", "shapes"]
    assert Hashes().compute(command.folder / "shapes-too") in command("show", "shapes-too")
    assert "is there already" in command("pull", "me/shapes-too")


def test_a_folder_is_replaced_and_what_a_link_led_to_stays(server, command, tmp_path):
    server.repositories["me/again"] = shipped_files()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.txt").write_text("stays")
    command.folder.mkdir(exist_ok=True)
    (command.folder / "again").symlink_to(elsewhere)
    for _ in range(2):
        assert "requests call it again." in command("pull", "me/again", "--force")
    assert not (command.folder / "again").is_symlink()
    assert [each.name for each in command.folder.iterdir()] == ["again"]
    assert (elsewhere / "mine.txt").read_text() == "stays"


def test_a_folder_that_broke_off_goes_on_with_the_file_that_it_was_at(server, command, monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda s: None)
    server.repositories["me/broken"] = shipped_files()
    server.cuts = [10**9, 10**9, *[0] * 20]
    assert "The same command goes on from there." in command("pull", "me/broken")
    assert [each for each in command("list", "--quick").splitlines() if "broken" in each] == []
    server.cuts.clear()
    began = len(server.asked)
    assert "requests call it broken" in command("pull", "me/broken")
    again = [path for path, _ in server.asked[began:] if path.startswith("/files/")]
    assert len(again) == len(source_files(server)) - 2
    assert sorted(path.name for path in command.folder.iterdir()) == ["broken"]


def source_files(server: Server) -> tuple[Remote, ...]:
    with httpx.Client() as client:
        return source(server, client, "me/broken").files


def test_a_second_command_for_the_same_file_is_told_to_wait(server, client, tmp_path):
    first = alone(tmp_path / ".a.lock", lambda: None)
    with first, pytest.raises(InvalidParam, match="is being fetched by another command"):
        fetch(client, remote(server), tmp_path / "a")
    assert fetch(client, remote(server), tmp_path / "a") == SHA256


def test_a_gated_repository_says_what_to_do_and_opens_with_the_token(server, command, monkeypatch):
    server.repositories["me/gated"] = {"gated.safetensors": CONTENT}
    server.gated.add("me/gated")
    assert "accepted its licence: do that at" in command("pull", "me/gated")
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    command("pull", "me/gated", "--into", "loras")
    assert (command.folder / "loras" / "gated.safetensors").read_bytes() == CONTENT
    stores = [headers for path, headers in server.asked if path.startswith("/files/")]
    assert all("authorization" not in headers for headers in stores)


def test_a_file_that_is_no_checkpoint_is_named_for_what_it_is(server, command):
    told = command("pull", f"{server.address}/files/a.safetensors")
    assert f"sha256: {SHA256}" in told
    assert "It can't be used: a.safetensors is no checkpoint" in told


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--name", "../../out"], "can't be the name of a file"),
        (["--name", ".hidden"], "can't be the name of a file"),
        (["--sha256", "abc"], "--sha256 is 64 hex digits"),
        (["--sha256", "0" * 64], "came damaged"),
    ],
)
def test_what_is_typed_wrong_is_told(words, says, server, command):
    assert says in command("pull", f"{server.address}/files/a.safetensors", *words)
    assert not command.folder.exists() or list(command.folder.iterdir()) == []


def test_an_address_that_names_no_weights_needs_a_name(server, command):
    server.files["download"] = CONTENT
    assert "--name something.safetensors" in command("pull", f"{server.address}/files/download")
    command("pull", f"{server.address}/files/download?id=7", "--name", "mine.safetensors")
    assert (command.folder / "mine.safetensors").read_bytes() == CONTENT


def test_the_list_tells_what_workers_have_in_memory(command):
    with open_store(settings.load_settings()) as store:
        held = [Resident("atelier-shapes", 23_000_000, 0, 1.0, None)]
        for worker in ("one", "two"):
            store.commit_blocking(partial(replace_residents, worker_id=worker, held=held))
    [shapes] = [line for line in command("list", "--quick").splitlines() if "atelier-shapes" in line and "MB" in line]
    assert "23 MB x 2" in shapes


def test_convert_makes_a_folder_of_another_precision(command):
    command.folder.mkdir()
    shutil.copytree(SHIPPED_FOLDER / "atelier-shapes", command.folder / "mine")
    assert "mine-fp32 has 24 MB, where mine has 12 MB." in command("convert", "mine", "--dtype", "fp32")
    assert ["mine-fp32", "shapes", "24", "MB", "usable"] in [
        line.split() for line in command("list", "--quick").splitlines()
    ]
    made = {str(path.relative_to(command.folder / "mine-fp32")) for path in (command.folder / "mine-fp32").rglob("*.*")}
    assert made == set(shipped_files())
    assert "is there already" in command("convert", "mine", "--dtype", "fp32")
    assert "There is no checkpoint 'nope'" in command("convert", "nope")
