"""Code tries to get out of its sandbox: by files, the network, processes, the kernel, and by taking too much.

All of it with every wall, and again where the kernel gives no namespaces: the list of system calls must hold alone.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.workers.attempts import BARE, DEEP, JAVASCRIPT, TAKING_TOO_MUCH
from tests.workers.lesser_kernels import NO_NAMESPACES, on_kernel_without
from workers.code_sandbox.sandbox import CodeFailed, Limits, Sandbox

LIMITS = Limits(timeout_s=1.5, memory_mb=256, answer_mb=4)
FINE = "def main(x):\n    return {'y': x + 1}"


@pytest.fixture(scope="module", params=["every wall", "without namespaces"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    sandbox = Sandbox(LIMITS)

    def begin() -> Any:
        return sandbox.run("python3", FINE, {"x": 1})

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SECRET", "of the worker")
        assert (on_kernel_without(NO_NAMESPACES, begin) if "without" in request.param else begin()) == {"y": 2}
    if request.param == "every wall" and "namespaces" not in sandbox.walls:
        pytest.skip("this kernel gives no namespaces")
    assert ("namespaces" in sandbox.walls) == (request.param == "every wall")
    yield sandbox
    assert sandbox.run("python3", FINE, {"x": 1}) == {"y": 2}
    sandbox.close()


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What there is to get: a file, a folder, servers of all kinds. All that code needs to find them."""
    folder = tmp_path_factory.mktemp("outside")
    folder.chmod(0o777)
    (folder / "secret").write_text("of the house")
    (folder / "stolen.py").write_text("")
    abstract, datagrams = f"atelier-{os.getpid()}", f"atelier-datagrams-{os.getpid()}"
    with ExitStack() as servers:
        web = servers.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Hello))
        Thread(target=web.serve_forever, daemon=True).start()
        servers.callback(web.shutdown)
        port6 = 0
        with suppress(OSError):  # no IPv6 on this machine
            port6 = servers.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6)).getsockname()[1]
        for name in (str(folder / "socket"), f"\0{abstract}"):
            listener = servers.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(name)
            listener.listen()
        servers.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)).bind(f"\0{datagrams}")
        yield {
            "secret": str(folder / "secret"),
            "folder": str(folder),
            "port": web.server_port,
            "port6": port6,
            "path": str(folder / "socket"),
            "abstract": abstract,
            "datagrams": datagrams,
        }


class Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("attempt", BARE)
def test_an_attempt_does_get_out_where_nothing_holds_it(attempt: str, outside: dict[str, Any], tmp_path: Path) -> None:
    if "IPv6" in attempt and not outside["port6"]:
        pytest.skip("no IPv6 on this machine")
    code = f"{BARE[attempt]}\nimport json, sys\nassert main(**json.loads(sys.argv[1]))"
    environment = os.environ | {"SECRET": "of the worker"}
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(outside)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("attempt", BARE | DEEP)
def test_no_attempt_gets_out(attempt: str, sandbox: Sandbox, outside: dict[str, Any]) -> None:
    with pytest.raises(CodeFailed) as failed:
        sandbox.run("python3", (BARE | DEEP)[attempt], outside)
    assert is_refusal(str(failed.value)), failed.value
    assert Path(outside["secret"]).read_text() == "of the house"


REFUSALS = ("PermissionError", "Operation not permitted", "can't start new thread", "ended by SIGSYS")
AS_LIBRARIES_SAY_IT = (
    "KeyError",
    "No module named",
    "Bad file descriptor",
    "No usable temporary directory",
    "unable to open database file",
    "cannot open shared object file",
    "failure in name resolution",
    "not allowed to raise maximum limit",
    "MemoryError",  # no memory that is executable
)


def is_refusal(text: str) -> bool:
    return any(words in text for words in REFUSALS + AS_LIBRARIES_SAY_IT)


@pytest.mark.parametrize("attempt", JAVASCRIPT)
def test_javascript_finds_nothing_outside(attempt: str, sandbox: Sandbox, outside: dict[str, Any]) -> None:
    with pytest.raises(
        CodeFailed, match=r"not defined|could not load|out of memory|call stack|invalid|too long|longer than"
    ):
        sandbox.run("javascript", JAVASCRIPT[attempt], outside)


@pytest.mark.parametrize("attempt", TAKING_TOO_MUCH)
def test_who_takes_too_much_is_ended(attempt: str, sandbox: Sandbox) -> None:
    with pytest.raises(CodeFailed) as failed:
        sandbox.run("python3", TAKING_TOO_MUCH[attempt], {})
    assert len(str(failed.value)) < 20_000
    assert sandbox.run("python3", FINE, {"x": 1}) == {"y": 2}
