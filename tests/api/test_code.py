"""Code nodes through the door: a real server, its worker and the sandbox."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Atelier, running
from tests.unit.drawing import draw, end, field, node, start
from tests.workers.test_code_sandbox import descendants

PYTHON = """
import json, re

def main(text: str, number: float) -> dict:
    words = re.findall(r"\\w+", text)
    text = json.dumps(words)
    return {"words": words, "count": len(words), "object": {"double": number * 2}, "is": True, "text": text}
"""
JAVASCRIPT = """
function main({text, number}) {
    const words = text.match(/\\p{L}+/gu) ?? [];
    return {words, count: words.length, object: {double: number * 2}, is: true, text: JSON.stringify(words)};
}
"""
OUTPUTS = {"words": "array[string]", "count": "number", "object": "object", "is": "boolean", "text": "string"}


@pytest.fixture(scope="module")
def computing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    with running(
        tmp_path_factory.mktemp("computing"), worker_module="tests.chaos.painter", code_timeout_s="20"
    ) as server:
        server.until_ready()
        yield server


def key_of(server: Atelier, name: str, code: str, outputs: dict[str, str], **more: Any) -> str:
    """A key for an app whose code gets `text` and `number` and answers the outputs."""
    data = {
        "code_language": more.pop("language", "python3"),
        "code": code,
        "variables": [{"variable": name, "value_selector": ["start", name]} for name in ("text", "number")],
        "outputs": {name: {"type": kind, "children": None} for name, kind in outputs.items()},
    }
    nodes = [
        start(field("text", "paragraph", max_length=10**6), field("number", "number")),
        node("code", "code", **data, **more),
        end(**{name: ["code", name] for name in (*outputs, "error_message", "error_type")}),
    ]
    path = server.data_dir / f"{name}.yml"
    edges = ["start > code", "code source > end", *(["code fail-branch > end"] if "error_strategy" in more else [])]
    path.write_text(draw(nodes, edges))
    return server.app_key(Path(path))


@pytest.mark.parametrize(("language", "code"), [("python3", PYTHON), ("javascript", JAVASCRIPT)])
def test_code_answers_values_of_every_type(computing: Atelier, language: str, code: str) -> None:
    key = key_of(computing, f"in-{language}", code, OUTPUTS, language=language)
    run = computing.run({"text": "größer, nicht  kleiner", "number": 1.5}, key).json()["data"]
    assert run["status"] == "succeeded", run["error"]
    words = ["größer", "nicht", "kleiner"]
    expected = {"words": words, "count": 3, "object": {"double": 3}, "is": True}
    assert run["outputs"].items() >= expected.items()
    assert json.loads(run["outputs"]["text"]) == words


def test_what_goes_wrong_in_code_ends_the_run_with_its_words(computing: Atelier) -> None:
    key = key_of(computing, "wrong", "def main(text, number):\n    return {'x': 1 / number}", {"x": "number"})
    run = computing.run({"text": "", "number": 0}, key).json()["data"]
    assert run["status"] == "failed"
    assert run["error"].startswith('Traceback (most recent call last):\n  File "<code>", line 2, in main')
    assert run["error"].endswith("ZeroDivisionError: division by zero")


@pytest.fixture(scope="module")
def caught(computing: Atelier) -> str:
    """A key for an app whose code answers what its input says, with a branch for failures."""
    code = "def main(text, number): return eval(text)"
    return key_of(computing, "caught", code, {"x": "string"}, error_strategy="fail-branch")


@pytest.mark.parametrize(
    ("answer", "error_type", "error"),
    [
        ("open('/etc/passwd')", "CodeExecutionError", "PermissionError: [Errno 1] Operation not permitted"),
        ("[]", "CodeExecutionError", "Result must be a dict, got list."),
        ("{'x': 1}", "OutputValidationError", "Output x must be a string, got int instead."),
        ("{}", "OutputValidationError", "Output x is missing."),
        ("{'x': '', 'y': ''}", "CodeNodeError", "Not all output parameters are validated."),
    ],
)
def test_a_fail_branch_hears_what_kind_of_error_it_was(
    computing: Atelier, caught: str, answer: str, error_type: str, error: str
) -> None:
    run = computing.run({"text": answer, "number": 1}, caught).json()["data"]
    assert run["status"] == "partial-succeeded", run
    assert run["outputs"]["error_type"] == error_type
    assert error in run["outputs"]["error_message"]


def test_a_run_that_is_stopped_ends_its_code(computing: Atelier) -> None:
    key = key_of(computing, "sleeps", "import time\ndef main(**_): time.sleep(3600)", {})
    body = {"inputs": {"text": "", "number": 1}, "response_mode": "streaming", "user": "u"}
    headers = computing.bearer(key)
    with computing.http.stream("POST", "/v1/workflows/run", json=body, headers=headers) as stream:
        lines = (json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: {"))
        task_id = next(lines)["task_id"]
        computing.until("the code runs", lambda: len(sandbox_of(computing)) == 3)
        stopped = computing.http.post(f"/v1/workflows/tasks/{task_id}/stop", json={"user": "u"}, headers=headers)
        assert stopped.json()["result"] == "success"
        assert [event["data"]["status"] for event in lines if event["event"] == "workflow_finished"] == ["stopped"]
    computing.until("its process is gone", lambda: len(sandbox_of(computing)) == 2)


def sandbox_of(server: Atelier) -> list[int]:
    """The processes of the server's sandbox: the first, which waits, the zygote, and one for each call."""
    return [pid for pid in descendants(server.process.pid) if b"code_sandbox" in command_of(pid)]


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it ended while we looked
        return b""


def test_a_large_text_goes_in_and_out(computing: Atelier) -> None:
    key = key_of(computing, "large", "def main(text, number):\n    return {'x': text[::-1]}", {"x": "string"})
    run = computing.run({"text": "ab" * 199_000, "number": 1}, key).json()["data"]
    assert run["outputs"]["x"] == "ba" * 199_000
