"""Real servers for the tests: `atelier serve` as a process of its own on a free port, with a folder of its own."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.cli import main
from app.errors import answers

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 60.0
OURS = ("ATELIER_", "DATABASE_URL", "REDIS_URL", "S3_", "HF_")  # what Atelier reads
THEIRS = (
    "AWS_",
    "PG",
    "OPENAI_",
    "OLLAMA_",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "COLUMNS",
    "NO_COLOR",
    "FORCE_COLOR",
)
FOR_TESTS = ("ATELIER_CHAOS_", "ATELIER_FUZZ_", "ATELIER_ORACLE_", "ATELIER_SHAPES_DIR")


OTHER_SHAPES = (  # of the other dialects' errors
    *("/v1/images/", "/v1/models", "/v1/allm/", "/v1/chat/", "/v1/completions", "/v1/embeddings", "/v1/responses"),
    *("/api/", "/ollama/", "/llamago/"),
)
IN_THE_TABLE = {(error.code, error.status) for error in answers()}


def errors_have_the_envelope(answer: httpx.Response) -> None:
    """Whatever test asks, an error has the shape of all errors, and a code and a status of the table."""
    if answer.status_code < 400 or answer.url.path == "/readyz" or answer.request.method == "HEAD":
        return
    if answer.url.path.startswith(OTHER_SHAPES):
        return
    answer.read()
    said = answer.json()
    assert (said["code"], said["status"]) in IN_THE_TABLE, answer.text
    assert said["status"] == answer.status_code
    assert said["request_id"] == answer.headers["x-request-id"]


def forget_the_environment() -> None:
    """Variables of whoever runs the tests change nothing, here and in what is started from here."""
    for name in list(os.environ):
        if name.upper().startswith(OURS + THEIRS) and not name.startswith(FOR_TESTS):
            del os.environ[name]


_ONE_COMMAND = threading.Lock()


@dataclass(frozen=True)
class Done:
    """What came of a command."""

    status: int
    stdout: str
    stderr: str


def run_command(env: Mapping[str, str], *words: str) -> Done:
    """`atelier` with these words, in an environment.

    It runs in this process: a process of its own would import for a second what is here already. Those tests that show
    how the command begins and ends as a process start one.
    """
    said, warned = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with _ONE_COMMAND, pytest.MonkeyPatch.context() as here, redirect_stdout(said), redirect_stderr(warned):
        here.setattr(sys, "argv", ["atelier", *words])
        for name in [name for name in os.environ if name.startswith(OURS)]:
            here.delenv(name)
        for name, value in env.items():
            if name.startswith(OURS):
                here.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main()
        if isinstance(ended.value.code, str):  # as Python does it at the end of a process
            print(ended.value.code, file=sys.stderr)
    status = ended.value.code
    texts = (text.buffer.getvalue().decode() for text in (said, warned))  # type: ignore[attr-defined]
    return Done(status if isinstance(status, int) else int(status is not None), *texts)


@dataclass
class Atelier:
    """One running server and what a client needs to know of it."""

    data_dir: Path
    env: dict[str, str]
    process: subprocess.Popen[str]
    url: str
    urls: dict[str, str] = field(default_factory=dict)  # of the dialects' own ports, by what people call them
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE_S, headers=self.bearer(self.key))
        self.http.event_hooks = {"response": [errors_have_the_envelope]}

    @property
    def key(self) -> str:
        return (self.data_dir / "key").read_text().strip()

    @property
    def checkpoints_dir(self) -> Path:
        return Path(self.env["ATELIER_CHECKPOINTS_DIR"])

    @staticmethod
    def bearer(key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"}

    def cli(self, *words: str) -> str:
        """What the `atelier` command prints in this server's environment."""
        done = run_command(self.env, *words)
        assert done.status == 0, done.stderr
        return done.stdout.strip()

    def app_key(self, document: Path, name: str | None = None) -> str:
        """Publishes a document and makes a key for its app."""
        name = name or document.stem
        told = self.cli("workflows", "import", str(document), "--app", name)
        made = re.search(r"^Key: (app-\w+)$", told, re.MULTILINE)
        return made[1] if made else self.cli("keys", "create", "--app", name)

    def run(self, inputs: dict[str, Any], key: str | None = None, **more: Any) -> httpx.Response:
        body = {"inputs": inputs, "response_mode": "blocking", "user": "abc-123", **more}
        return self.http.post("/v1/workflows/run", json=body, headers=self.bearer(key or self.key))

    def until(self, condition: str, get: Any, patience_s: float = PATIENCE_S) -> Any:
        """Calls `get` until it gives something true."""
        end = time.monotonic() + patience_s
        while time.monotonic() < end:
            if found := get():
                return found
            time.sleep(0.05)
        raise AssertionError(f"not within {patience_s:g} s: {condition}")

    def until_ready(self) -> None:
        self.until("the server is ready", lambda: self.http.get("/readyz").status_code == 200)

    def detail(self, run_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/v1/workflows/run/{run_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def until_ended(self, run_id: str) -> dict[str, Any]:
        def ended() -> dict[str, Any] | None:
            run = self.detail(run_id)
            return None if run["status"] == "running" else run

        return dict(self.until("the run has ended", ended))

    def worker_pid(self, module: str = "workers.main", work_class: str = "gpu") -> int | None:
        """The process id of the server's worker for a class of work."""
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                is_child = f"PPid:\t{self.process.pid}\n" in status.read_text()
                words = status.with_name("cmdline").read_bytes().split(b"\0")
                if is_child and module.encode() in words and work_class.encode() in words:
                    return int(status.parent.name)
            except OSError:  # it ended while we looked
                continue
        return None

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE_S)

    def stop(self) -> int:
        """Asks the server to end; its exit status."""
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


def start(
    data_dir: Path, log: Path | None = None, *, env_too: Mapping[str, str] | None = None, **settings: str
) -> Atelier:
    """Starts a server; it listens when this returns. `env_too`: variables that don't begin with ATELIER_.

    Its log lines, and its worker's, go to the file `log`, if any.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
    env |= {
        "ATELIER_DATA_DIR": str(data_dir),
        "ATELIER_CHECKPOINTS_DIR": str(data_dir / "checkpoints"),
        "ATELIER_PORT": "0",
        "ATELIER_OLLAMA_PORT": "none",
        "ATELIER_LLAMAGO_PORT": "none",
        "PYTHONUNBUFFERED": "1",
        **{f"ATELIER_{name.upper()}": value for name, value in settings.items()},
        **(env_too or {}),
    }
    (data_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
    with log.open("ab") if log else nullcontext() as stderr:
        command = [sys.executable, "-m", "app", "serve"]
        process = subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True)
    assert process.stdout is not None
    urls: dict[str, str] = {}
    for line in process.stdout:
        if found := re.match(r"For clients of (.+): (\S+)$", line):
            urls[found[1]] = found[2]
        if line.startswith("Atelier listens on "):
            server = Atelier(data_dir, env, process, line.split()[-1], urls)
            break
    else:
        raise AssertionError(f"the server ended with status {process.wait()}")
    server.until("the server answers", lambda: _alive(server.http))
    return server


def _alive(http: httpx.Client) -> bool:
    try:
        return http.get("/livez").status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def running(
    data_dir: Path, log: Path | None = None, *, env_too: Mapping[str, str] | None = None, **settings: str
) -> Iterator[Atelier]:
    """A server for the length of a block."""
    server = start(data_dir, log, env_too=env_too, **settings)
    try:
        yield server
    finally:
        server.stop()
