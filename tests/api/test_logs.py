"""Log lines: each can be parsed, says what it is about, and gives nothing away."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.api.test_metrics import failing_key
from tests.servers import ROOT, Atelier, running

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
PROMPT = "a zeppelin of quartz beside a xylophone"
PICTURE = {"inputs": {"prompt": PROMPT, "steps": 2}, "response_mode": "blocking", "user": "abc-123"}

Lines = list[dict[str, Any]]


def attempts(lines: Lines) -> Lines:
    return [line for line in lines if line.get("action") == "attempt_ended"]


@dataclass(frozen=True)
class Logged:
    level: str
    key: str
    text: str

    @property
    def lines(self) -> Lines:
        return [json.loads(line) for line in self.text.splitlines()]


ENGINES = {"info": "tests.chaos.painter", "debug": "workers.main"}
"""The libraries of the real one say no less at debug."""


@pytest.fixture(scope="module", params=ENGINES)
def logged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Logged:
    """What a server wrote that was asked for pictures, well and badly, and has ended."""
    folder = tmp_path_factory.mktemp("logged")
    settings = {"log_format": "json", "log_level": request.param, "worker_module": ENGINES[request.param]}
    with running(folder, folder / "log", **settings) as server:
        server.until_ready()
        ask_for_everything(server, folder)
    return Logged(request.param, server.key, (folder / "log").read_text())


def ask_for_everything(server: Atelier, folder: Path) -> None:
    for headers in ({"traceparent": TRACEPARENT}, {"traceparent": "00-" + "0" * 32 + "-b7ad6b7169203331-01"}):
        run = server.http.post("/v1/workflows/run", json=PICTURE, headers=headers).json()
        assert server.http.get(run["data"]["outputs"]["files"][0]["url"]).status_code == 200
    server.http.post("/v1/workflows/run", json=PICTURE | {"response_mode": PROMPT})
    server.http.post("/v1/workflows/run", json=PICTURE | {"inputs": {"prompt": PROMPT, "width": PROMPT}})
    server.http.post(
        "/v1/workflows/run", content=json.dumps(PICTURE)[:-9], headers={"content-type": "application/json"}
    )
    server.run({"prompt": PROMPT}, key="app-" + "zeppelin" * 3)
    assert server.run({"text": PROMPT}, failing_key(server, folder)).json()["data"]["status"] == "failed"


def test_every_line_is_json_with_its_time_and_its_process(logged: Logged) -> None:
    for line in logged.lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        assert {line["level"], line["process"]} <= {"info", "debug", "warning", "server", "worker"}
        assert line["message"]
        assert line["action"]
    assert {line["process"] for line in logged.lines} == {"server", "worker"}


def test_no_line_holds_a_prompt_a_key_or_a_signature(logged: Logged) -> None:
    assert not any(secret in logged.text for secret in (logged.key, "zeppelin", "sign="))


def test_a_workers_lines_name_run_step_worker_and_the_callers_trace(logged: Logged) -> None:
    traced, other = attempts(logged.lines)
    assert traced["trace"] == TRACE
    assert re.fullmatch(r"[0-9a-f]{32}", other["trace"])
    assert other["trace"] not in (TRACE, "0" * 32)
    assert (traced["attempt"], traced["outcome"], traced["process"]) == (1, "succeeded", "worker")
    assert all(len(traced[name]) == 36 for name in ("run", "step", "worker"))


def test_only_at_debug_each_request_has_one_line_with_its_ids(logged: Logged) -> None:
    answered = [line for line in logged.lines if line.get("action") == "answered"]
    if logged.level == "info":
        assert answered == []
        return
    assert all(len(line["request"]) == 36 and len(line["trace"]) == 32 for line in answered)
    assert len({line["request"] for line in answered}) == len(answered)
    accepted = [line for line in answered if line["route"] == "/v1/workflows/run" and "run" in line]
    traces = {line["run"]: line["trace"] for line in accepted}
    assert all(traces[step["run"]] == step["trace"] for step in attempts(logged.lines))


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_librarys_line_carries_the_ids_and_shows_no_secret(form: str) -> None:
    said = logged_by(
        f"set_up_logs('server', 'info', {form!r})",
        "about(Subject(request='r-1', run='run-1', traceparent='" + TRACEPARENT + "'))",
        "logging.getLogger('somebody').warning('GET https://u:word@host/x?sign=abc&y=1 app-' + 24 * 'k')",
    )
    assert all(found in said for found in ("r-1", "run-1", TRACE, "y=1"))
    assert not any(found in said for found in ("abc", "word", "kkk"))


@pytest.mark.parametrize(("level", "is_told"), [("info", False), ("debug", True)])
def test_an_unforeseen_error_quotes_nobody_but_at_debug(level: str, is_told: bool) -> None:
    said = logged_by(
        f"set_up_logs('server', {level!r}, 'json')",
        "try: {}['a zeppelin']",
        "except KeyError: logging.getLogger('app').exception('failed')",
    )
    assert "builtins.KeyError" in json.loads(said)["traceback"]
    assert ("zeppelin']" in said or "'a zeppelin'" in said) == is_told


def test_a_handler_that_a_library_has_hung_up_is_taken_down() -> None:
    said = logged_by(
        "own = logging.getLogger('library'); own.propagate = False; own.addHandler(logging.StreamHandler())",
        "set_up_logs('worker', 'info', 'json', 'w-1')",
        "own.getChild('part').error('trouble')",
        "import warnings; warnings.warn('old ways')",
    )
    first, second = map(json.loads, said.splitlines())
    assert (first["logger"], first["message"], first["worker"]) == ("library.part", "trouble", "w-1")
    assert (second["logger"], second["level"]) == ("py.warnings", "warning")


def logged_by(*program: str) -> str:
    """What a small program writes to its log."""
    lines = ["import logging", "from app.logs import Subject, about, set_up_logs", *program]
    command = [sys.executable, "-c", "\n".join(lines)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stderr
