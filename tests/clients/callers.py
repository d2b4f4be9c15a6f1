"""The clients that people have, each unchanged: a blocking call of each comes back as a status and a text.

Every client makes all of its calls side by side, so that a test waits once for all of them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import requests
import urllib3
from dify_client import WorkflowClient

from tests.servers import ROOT

HERE = Path(__file__).parent
OLD_CLIENT = ROOT / "build" / "dify-client"
"""`pip install --no-deps --target build/dify-client dify-client==0.1.10`"""

PATH = "/v1/workflows/run"
WHOLE_CALL_S = 110.0
"""For limits that count the whole call, not its silence."""


@dataclass(frozen=True)
class Call:
    """One blocking call. `silence_s`: the client's limit for the time between two bytes, where it has one."""

    base: str
    key: str
    body: dict[str, Any]
    silence_s: float


@dataclass(frozen=True)
class Answered:
    """What the client handed to its caller. Status 0: it gave up, and the text says why."""

    status: int
    text: str
    replayed: bool = False


def by_httpx(call: Call) -> Answered:
    answer = httpx.post(call.base + PATH, json=call.body, headers=_bearer(call), timeout=call.silence_s)
    return Answered(answer.status_code, answer.text)


def by_requests(call: Call) -> Answered:
    answer = requests.post(call.base + PATH, json=call.body, headers=_bearer(call), timeout=call.silence_s)
    return Answered(answer.status_code, answer.text)


def by_urllib3(call: Call) -> Answered:
    answer = urllib3.request("POST", call.base + PATH, json=call.body, headers=_bearer(call), timeout=call.silence_s)
    return Answered(answer.status, answer.data.decode())


def by_dify_python_sdk(call: Call) -> Answered:
    with WorkflowClient(call.key, base_url=f"{call.base}/v1", timeout=call.silence_s) as client:
        answer = client.run(call.body["inputs"], response_mode="blocking", user=call.body["user"])
    return Answered(answer.status_code, answer.text, "idempotency-replayed" in answer.headers)


def by_curl(call: Call) -> Answered:
    words = ["curl", "--silent", "--show-error", "--max-time", str(WHOLE_CALL_S), "--write-out", "\n%{http_code}"]
    words += ["--header", f"Authorization: Bearer {call.key}", "--json", json.dumps(call.body), call.base + PATH]
    done = subprocess.run(words, capture_output=True, text=True)
    text, _, status = done.stdout.rpartition("\n")
    return Answered(int(status), text or done.stderr)


def _bearer(call: Call) -> dict[str, str]:
    return {"Authorization": f"Bearer {call.key}"}


def _each(one: Callable[[Call], Answered], calls: Sequence[Call]) -> list[Answered]:
    def guarded(call: Call) -> Answered:
        try:
            return one(call)
        except Exception as error:
            return Answered(0, repr(error))

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(guarded, calls))


def _program(words: Sequence[str], calls: Sequence[Call], env: dict[str, str] | None = None) -> list[Answered]:
    """A program that makes all the calls and prints a line for each."""
    pairs = [word for call in calls for word in (call.base + PATH, json.dumps(call.body))]
    limit_s = WHOLE_CALL_S if words[0] == "node" else calls[0].silence_s
    command = [*words, str(limit_s), calls[0].key, *pairs]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | (env or {}))
    lines = [line.split("\t", 1) for line in done.stdout.splitlines()]
    if len(lines) != len(calls):
        return [Answered(0, done.stdout + done.stderr)] * len(calls)
    return [Answered(int(status), text) for status, text in lines]


_OLD = [sys.executable, str(HERE / "dify_client_0_1_10.py")]

CLIENTS: dict[str, Callable[[Sequence[Call]], list[Answered]]] = {
    "httpx": lambda calls: _each(by_httpx, calls),
    "requests": lambda calls: _each(by_requests, calls),
    "urllib3": lambda calls: _each(by_urllib3, calls),
    "curl": lambda calls: _each(by_curl, calls),
    "dify-python-sdk": lambda calls: _each(by_dify_python_sdk, calls),
    "dify-client": lambda calls: _program(_OLD, calls, {"PYTHONPATH": str(OLD_CLIENT)}),
    "node": lambda calls: _program(["node", str(HERE / "fetch.mjs")], calls),
    "java": lambda calls: _program(["java", str(HERE / "Calls.java")], calls),
}

_NEEDS = {"curl": "curl", "node": "node", "java": "javac"}


def missing(client: str) -> str | None:
    """Why the client can't be tried here; None when it can."""
    if client == "dify-client":
        return None if OLD_CLIENT.exists() else f"needs dify-client 0.1.10 in {OLD_CLIENT.relative_to(ROOT)}"
    program = _NEEDS.get(client)
    return f"needs {program}" if program and not shutil.which(program) else None


def old_client_parameters(base: str, key: str) -> Answered:
    """What dify-client 0.1.10 gets from /parameters."""
    return _old_client("parameters", f"{base}/v1", key)


def old_client_upload(base: str, key: str, file: Path, media_type: str) -> Answered:
    """What dify-client 0.1.10 gets for a file."""
    return _old_client("upload", f"{base}/v1", key, str(file), media_type)


def _old_client(*words: str) -> Answered:
    env = os.environ | {"PYTHONPATH": str(OLD_CLIENT)}
    done = subprocess.run([*_OLD, *words], capture_output=True, text=True, env=env)
    status, _, text = done.stdout.partition("\t")
    return Answered(int(status or 0), text or done.stderr)
