"""What code gets in its sandbox, what it leaves behind, and what happens where the kernel can't hold it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from tests.clusters import until
from tests.workers.lesser_kernels import NO_FILTERS, NO_MOUNTS, on_kernel_without
from workers.code_sandbox.sandbox import CodeFailed, Halted, Limits, Sandbox

ADD = "def main(a, b):\n    return {'sum': a + b}"
SLEEP = "import time\ndef main():\n    time.sleep(3600)"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    sandbox = Sandbox(Limits(timeout_s=20))
    yield sandbox
    sandbox.close()


def test_main_gets_its_inputs_by_name(sandbox: Sandbox) -> None:
    assert sandbox.run("python3", ADD, {"a": 1, "b": 2}) == {"sum": 3}
    script = "const main = ({a, b}) => { console.log(a); return {sum: a + b}; }"
    assert sandbox.run("javascript", script, {"a": "ж", "b": "\u2028'\"`"}) == {"sum": "ж\u2028'\"`"}


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("import json, re, math\ndef main():\n return {'r': math.gcd(12, 18)}", 6),
        (
            "import sqlite3\ndef main():\n return {'r': sqlite3.connect(':memory:').execute('select 2').fetchone()[0]}",
            2,
        ),
        ("import xmlrpc.client, tomllib\ndef main():\n return {'r': tomllib.loads('a = 1')['a']}", 1),
        (
            "import datetime as d\ndef main():\n return {'r': d.datetime.fromtimestamp(0).isoformat()}",
            "1970-01-01T00:00:00",
        ),
        ("def main():\n print('told to nobody')\n return {'r': 'ж'.encode('cp1251').hex()}", "e6"),
        (
            "import asyncio\nasync def f():\n await asyncio.sleep(0)\n return 5\n"
            "def main():\n return {'r': asyncio.run(f())}",
            5,
        ),
        ("from dataclasses import dataclass\n@dataclass\nclass P:\n x: int\ndef main():\n return {'r': P(4).x}", 4),
        ("import random, uuid, secrets\ndef main():\n return {'r': len(str(uuid.uuid4()))}", 36),
    ],
)
def test_python_has_its_whole_library(sandbox: Sandbox, code: str, answer: object) -> None:
    assert sandbox.run("python3", code, {}) == {"r": answer}


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("async function main() { await null; return {r: 1}; }", 1),
        ("function main() { return {r: btoa('hi') + atob('aGk=')}; }", "aGk=hi"),
        ("function main() { return {r: 'a1b22'.replaceAll(/[0-9]+/gu, '')}; }", "ab"),
        ("class A { #x = 3; get x() { return this.#x; } }\nvar main = () => ({r: new A().x ?? 0});", 3),
        ("function main() { return {r: new Date(0).toISOString()}; }", "1970-01-01T00:00:00.000Z"),
    ],
)
def test_javascript_is_a_modern_one(sandbox: Sandbox, code: str, answer: object) -> None:
    assert sandbox.run("javascript", code, {}) == {"r": answer}


@pytest.mark.parametrize(
    ("language", "code", "message"),
    [
        ("python3", "def main():\n    return 1 / 0", "line 2, in main\n    return 1 / 0\n"),
        ("python3", "def main(:", "SyntaxError"),
        ("python3", "x = 1", "NameError: name 'main' is not defined"),
        ("python3", "def main(a):\n    return {}", "missing 1 required positional argument: 'a'"),
        ("python3", "def main():\n    return {'a': {1}}", "Object of type set is not JSON serializable"),
        ("python3", "def main():\n    import requests", "code has Python's standard library and no packages"),
        ("python3", "import sys\nsys.exit(3)", "SystemExit: 3"),
        ("javascript", "function main() { return a.b; }", "ReferenceError: a is not defined\n    at main"),
        ("javascript", "function main() { throw {code: 7}; }", '{"code":7}'),
        ("javascript", "function main( {", "SyntaxError"),
        ("javascript", "async function main() { throw new TypeError('no'); }", "TypeError: no"),
        ("javascript", "function main() { return new Promise(() => {}); }", "never fulfilled"),
    ],
)
def test_what_goes_wrong_is_told_as_its_language_does(sandbox: Sandbox, language: str, code: str, message: str) -> None:
    with pytest.raises(CodeFailed) as failed:
        sandbox.run(language, code, {})
    assert message in failed.value.message
    assert "code_sandbox" not in failed.value.message
    assert failed.value.error_type == "CodeExecutionError"


def test_a_call_leaves_nothing_to_the_next_one(sandbox: Sandbox) -> None:
    spoil = "import json, builtins\ndef main():\n    builtins.len = lambda _: 7\n    json.mine = 1\n    return {}"
    assert sandbox.run("python3", spoil, {}) == {}
    look = "import json\ndef main():\n    return {'len': len([]), 'mine': hasattr(json, 'mine')}"
    assert sandbox.run("python3", look, {}) == {"len": 0, "mine": False}
    assert sandbox.run("javascript", "function main() { globalThis.mine = 1; return {}; }", {}) == {}
    assert sandbox.run("javascript", "function main() { return {mine: typeof mine}; }", {}) == {"mine": "undefined"}


def test_calls_run_side_by_side(sandbox: Sandbox) -> None:
    answers: list[Any] = []
    threads = [
        Thread(target=lambda n=n: answers.append(sandbox.run("python3", ADD, {"a": n, "b": 0})["sum"]))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == list(range(8))


def test_a_call_that_is_wanted_no_more_is_ended(sandbox: Sandbox) -> None:
    stop, ended = Event(), Event()

    def call() -> None:
        with pytest.raises(Halted):
            sandbox.run("python3", SLEEP, {}, stop.is_set)
        ended.set()

    Thread(target=call, daemon=True).start()
    until("the code runs", lambda: len(family(sandbox)) == 3)
    stop.set()
    assert ended.wait(30)
    until("its process is gone", lambda: len(family(sandbox)) == 2)


def test_a_sandbox_that_died_is_begun_anew() -> None:
    sandbox = Sandbox()
    assert sandbox.run("python3", ADD, {"a": 1, "b": 2}) == {"sum": 3}
    for pid in family(sandbox):
        os.kill(pid, signal.SIGKILL)
    assert sandbox.run("python3", ADD, {"a": 1, "b": 2}) == {"sum": 3}
    sandbox.close()


def test_nothing_outlives_the_worker(tmp_path: Path) -> None:
    script = (
        "from workers.code_sandbox.sandbox import Sandbox\nimport threading\nsandbox = Sandbox()\n"
        f"threading.Thread(target=sandbox.run, args=('python3', {SLEEP!r}, {{}})).start()\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", script])
    until("the code runs", lambda: len(descendants(worker.pid)) == 3)
    left = descendants(worker.pid)
    worker.kill()
    worker.wait()
    until("all of it is gone", lambda: not any(Path(f"/proc/{pid}").exists() for pid in left))


def test_where_the_kernel_has_no_filters_code_is_not_run() -> None:
    sandbox = Sandbox()
    with pytest.raises(CodeFailed, match=r"can't be run safely on this machine, so it is not run: .*seccomp"):
        on_kernel_without(NO_FILTERS, lambda: sandbox.run("python3", ADD, {"a": 1, "b": 2}))


def test_where_nothing_can_be_mounted_the_other_walls_stand() -> None:
    sandbox = Sandbox()
    assert on_kernel_without(NO_MOUNTS, lambda: sandbox.run("python3", ADD, {"a": 1, "b": 2})) == {"sum": 3}
    assert "empty root" not in sandbox.walls
    sandbox.close()


def family(sandbox: Sandbox) -> list[int]:
    """The processes of the sandbox: its first one, which waits, the zygote, and a child for each call."""
    first = sandbox._zygote.pid if sandbox._zygote else 0
    return [pid for pid in (first, *descendants(first)) if is_alive(pid)]


def descendants(pid: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it ended while we looked
            continue
        if parent == pid:
            found += [int(folder.name), *descendants(int(folder.name))]
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
