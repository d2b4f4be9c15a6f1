"""The `atelier` command: what a newcomer types first, and the one sentence that trouble gets."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from PIL import Image

from tests.servers import ROOT, Atelier, start


def atelier(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app", *words]
    known = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "ATELIER_DATA_DIR": str(folder / "data")}
    return subprocess.run(command, cwd=folder, env=known | env, capture_output=True, text=True, timeout=110)


def test_quickstart_makes_a_picture_and_ends(tmp_path: Path) -> None:
    done = atelier(tmp_path, "quickstart", "--once", "--port", "0")
    assert done.returncode == 0, done.stderr
    (picture,) = (tmp_path / "out").glob("*.png")
    assert Image.open(picture).size == (64, 64)
    assert f"Your picture: out/{picture.name}" in done.stdout
    assert "curl -X POST http://127.0.0.1:" in done.stdout
    assert "100%" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_second_start_keeps_the_key(tmp_path: Path) -> None:
    keys = []
    for _ in range(2):
        server = start(tmp_path, worker="none")
        keys.append(server.key)
        assert server.http.get("/v1/info").status_code == 200
        assert server.stop() == 0
    assert keys[0] == keys[1]
    assert re.fullmatch(r"app-[A-Za-z0-9]{24}", keys[0])
    assert oct((tmp_path / "key").stat().st_mode)[-3:] == "600"


def test_a_port_in_use_gets_one_sentence(tmp_path: Path, web: Atelier) -> None:
    port = web.url.rpartition(":")[2]
    done = atelier(tmp_path, "serve", "--port", port)
    assert done.returncode == 1
    assert done.stderr.startswith(f"atelier: Port {port} on 127.0.0.1 can't be used")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("serve", "--host", "192.0.2.1", "--port", "0"), "Port 0 on 192.0.2.1 can't be used: Cannot assign requested"),
        (("workflows", "import", "nothing.yml"), "nothing.yml can't be read: No such file or directory."),
    ],
)
def test_trouble_gets_a_sentence(words: tuple[str, ...], says: str, tmp_path: Path) -> None:
    done = atelier(tmp_path, *words)
    assert done.returncode == 1
    assert done.stderr.removeprefix("atelier: ").startswith(says)


def test_a_usual_port_that_is_taken_is_done_without_and_told(tmp_path: Path) -> None:
    known = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "ATELIER_WORKER": "none", "ATELIER_LLAMAGO_PORT": "none"}
    with ExitStack() as held:
        with suppress(OSError):  # somebody else has it already
            held.enter_context(socket.create_server(("127.0.0.1", 11434)))
        command = [sys.executable, "-m", "app", "serve", "--port", "0"]
        server = held.enter_context(
            subprocess.Popen(command, cwd=tmp_path, env=known, stderr=subprocess.PIPE, text=True)
        )
        assert server.stderr is not None
        told = server.stderr.readline()
        server.terminate()
    assert "Port 11434 on 127.0.0.1 can't be used: Address already in use. Set ATELIER_OLLAMA_PORT to another" in told
    assert "Clients of Ollama find the main port only. action=port_taken" in told


def test_a_second_server_on_the_same_data_gets_one_sentence(web: Atelier) -> None:
    done = atelier(web.data_dir, "serve", "--port", "0", ATELIER_DATA_DIR=str(web.data_dir))
    assert done.returncode == 1
    assert done.stderr == (
        f"atelier: Another Atelier server uses {web.data_dir}. Stop it, or set ATELIER_DATA_DIR to another folder.\n"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ATELIER_PORT", "many"),
        ("ATELIER_LEASE_S", "0"),
        ("DATABASE_URL", "mysql://x"),
        ("ATELIER_PUBLIC_BASE_URL", "host"),
    ],
)
def test_a_wrong_setting_is_named_at_the_start(tmp_path: Path, name: str, value: str) -> None:
    done = atelier(tmp_path, "serve", **{name: value})
    assert done.returncode == 1
    assert done.stderr.startswith(f"atelier: {name}: ")
    assert "Traceback" not in done.stderr


def test_inputs_that_are_none_are_told_before_anything_is_asked(tmp_path: Path) -> None:
    done = atelier(tmp_path, "run", "prompt=a heart", "seed")
    assert done.returncode == 1
    assert done.stderr == "atelier: Several inputs are name=value each, not 'seed'.\n"


def test_settings_are_listed_as_they_are_written_with_their_defaults(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "ATELIER_PORT=8123\nATELIER_SECRET_KEY=quiet\nATELIER_OLLAMA_PORT=none\nATELIER_GPU_WITHOUT=fused,graphs\n"
        'ATELIER_CHECKPOINT_ALIASES={"dreams": "dreamshaper_8"}\n'
    )
    listed = atelier(tmp_path, "settings").stdout
    assert re.search(r"ATELIER_PORT +8123 +8000 ", listed)
    assert re.search(r"ATELIER_OLLAMA_PORT +none +11434 ", listed)
    assert re.search(r"ATELIER_GPU_WITHOUT +fused,graphs +what", listed)
    assert re.search(r'ATELIER_CHECKPOINT_ALIASES +{"dreams": "dreamshaper_8"} +JSON', listed)
    assert re.search(r"ATELIER_OPEN_TO_LOOPBACK +false +false ", listed)
    assert "DATABASE_URL" in listed
    assert "quiet" not in listed


def test_checkpoints_are_listed_with_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "checkpoints/loras").mkdir(parents=True)
    (tmp_path / "checkpoints/page.safetensors").write_text("<html>not found</html>")
    (tmp_path / "checkpoints/loras/style.safetensors").write_text("<html>not found</html>")
    listed = atelier(tmp_path, "checkpoints", COLUMNS="200").stdout
    assert re.search(r"atelier-shapes +shapes .* usable", listed)
    assert re.search(r"page +0 MB +page\.safetensors is a web page", listed)
    assert re.search(r"loras +style +0 MB +style\.safetensors is a web page", listed)
    assert str(tmp_path / "checkpoints") in listed


def test_every_shipped_document_passes_the_check(tmp_path: Path) -> None:
    files = sorted(str(file) for file in (ROOT / "workflows").glob("*.yml"))
    done = atelier(tmp_path, "workflows", "check", *files)
    assert done.returncode == 0
    assert done.stdout.count("no problem") == len(files) >= 3


def test_a_bad_document_is_told_all_its_problems(tmp_path: Path) -> None:
    text = (ROOT / "workflows/echo.yml").read_text().replace("type: template-transform", "type: agent")
    (tmp_path / "bad.yml").write_text(text)
    done = atelier(tmp_path, "workflows", "check", "bad.yml")
    assert done.returncode == 1
    assert "node 'repeat' (Repeat): kind 'agent' is not supported" in done.stdout


def test_keys_are_stored_as_hashes(web: Atelier) -> None:
    key = web.cli("keys", "create", "--label", "hidden")
    assert key not in web.cli("keys", "list")
    assert key.encode() not in (web.data_dir / "atelier.db").read_bytes()
    wal = web.data_dir / "atelier.db-wal"
    assert not wal.exists() or key.encode() not in wal.read_bytes()
