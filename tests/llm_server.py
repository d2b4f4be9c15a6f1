"""A language model's server for the tests: OpenAI's chat completions over real HTTP, in a process of its own.

What it answers is chosen by the model's name; `asked` gives every request that came in.

    python -m tests.llm_server
"""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.servers import PATIENCE_S, ROOT

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


@dataclass
class LlmServer:
    """The running server, as a test sees it."""

    url: str
    process: subprocess.Popen[str]

    def endpoints(self, **more: Any) -> str:
        """The setting that sends every model here."""
        return json.dumps({"default": {"url": f"{self.url}/v1", "api_key": "sk-secret", **more}})

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The requests so far: {body, authorization, left}; `left` once its client was gone before the end."""
        return list(httpx.get(f"{self.url}/asked", timeout=PATIENCE_S).json())

    def open_gate(self) -> None:
        """Lets the models `gated` and `second` go on."""
        httpx.post(f"{self.url}/gate", timeout=PATIENCE_S)

    def forget(self) -> None:
        httpx.post(f"{self.url}/forget", timeout=PATIENCE_S)


@contextmanager
def llm_server() -> Iterator[LlmServer]:
    process = subprocess.Popen([sys.executable, "-m", "tests.llm_server"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield LlmServer(process.stdout.readline().strip(), process)
    finally:
        process.kill()
        process.wait()


class Refusal(Exception):
    def __init__(self, status: int, body: str) -> None:
        super().__init__(body)
        self.status = status
        self.body = body


class _State(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Door)
        self.asked: list[dict[str, Any]] = []
        self.gate = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no trouble of ours."""


class _Door(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _State

    def do_GET(self) -> None:
        self.whole(200, self.server.asked)

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/gate":
            self.server.gate.set()
        elif self.path == "/forget":
            self.server.asked.clear()
            self.server.gate.clear()
        else:
            self.complete(json.loads(raw))
            return
        self.whole(200, {})

    def complete(self, body: dict[str, Any]) -> None:
        note = {"body": body, "authorization": self.headers.get("Authorization"), "left": False}
        self.server.asked.append(note)
        nth = sum(each["body"]["model"] == body["model"] for each in self.server.asked)
        try:
            deltas = MODELS.get(body["model"], echo)(self, body, nth)
            if not body.get("stream") or body["model"] == "unstreamed":
                text = "".join(delta.get("content", "") for delta in deltas)
                message = {"role": "assistant", "content": text}
                self.whole(200, {"choices": [{"message": message, "finish_reason": "stop"}], "usage": USAGE})
                return
            self.stream(body, deltas, nth)
        except Refusal as refusal:
            self.whole(refusal.status, refusal.body)
        except OSError:
            note["left"] = True

    def stream(self, body: dict[str, Any], deltas: Iterator[dict[str, Any]], nth: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for delta in deltas:
            self.event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        if body["model"] == "torn" or (body["model"] == "cut once" and nth == 1):
            self.chunk(b"")
            return
        reason = "tool_calls" if body["model"] == "caller" else "stop"
        self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        if (body.get("stream_options") or {}).get("include_usage"):
            self.event({"choices": [], "usage": USAGE})
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def event(self, event: dict[str, Any]) -> None:
        self.chunk(b"data: " + json.dumps(event).encode() + b"\n\n")

    def chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        self.wfile.flush()

    def whole(self, status: int, body: Any) -> None:
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None: ...


def last_text(body: dict[str, Any]) -> str:
    content = body["messages"][-1]["content"]
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def words(text: str) -> Iterator[dict[str, Any]]:
    for piece in text.split(" "):
        yield {"content": f"{piece} "}


def echo(door: _Door, body: dict[str, Any], nth: int) -> Iterator[dict[str, Any]]:
    """What the user said last."""
    text = last_text(body)
    yield from ({"content": piece} for piece in (text[:3], text[3:]))


def gated(door: _Door, body: dict[str, Any], nth: int) -> Iterator[dict[str, Any]]:
    """Says a beginning, and goes on when the gate opens."""
    yield {"content": "Once upon "}
    yield from waiting(door)
    yield {"content": "a time."}


def second(door: _Door, body: dict[str, Any], nth: int) -> Iterator[dict[str, Any]]:
    """Says something else the second time; the first time it goes on when the gate opens."""
    yield {"content": f"Try {nth}: "}
    if nth == 1:
        yield from waiting(door)
    yield {"content": "done."}


def cut_once(door: _Door, body: dict[str, Any], nth: int) -> Iterator[dict[str, Any]]:
    """Its first stream breaks off."""
    yield {"content": f"Try {nth}: "}
    if nth > 1:
        yield {"content": "done."}


def waiting(door: _Door) -> Iterator[dict[str, Any]]:
    """Nothing, but so that a client that leaves is noticed."""
    while not door.server.gate.wait(0.05):
        yield {"content": ""}


def thinker(door: _Door, body: dict[str, Any], nth: int) -> Iterator[dict[str, Any]]:
    for piece in ("<thi", "nk>\nLet me", " see.\n</th", "ink>\n\n", "It is ", "blue."):
        yield {"content": piece}


def reasoner(door: _Door, body: dict[str, Any], nth: int) -> Iterator[dict[str, Any]]:
    yield {"reasoning_content": "Let me see."}
    yield {"content": "It is blue."}


def jsonist(door: _Door, body: dict[str, Any], nth: int) -> Iterator[dict[str, Any]]:
    """Answers with the JSON that the user's message holds between |bars|."""
    yield from words("Here it is:\n```json\n" + last_text(body).split("|")[1] + "\n```")


def classify(door: _Door, body: dict[str, Any], nth: int) -> Iterator[dict[str, Any]]:
    """Answers what the system message holds between |bars|."""
    yield from words(body["messages"][0]["content"].split("|")[1])


def caller(door: _Door, body: dict[str, Any], nth: int) -> Iterator[dict[str, Any]]:
    """Calls the function with the JSON that the user's message holds between |bars|."""
    said = last_text(body).split("|")[1]
    name = body["tools"][0]["function"]["name"]
    yield {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": name, "arguments": ""}}]}
    for piece in (said[:5], said[5:]):
        yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}


def refusing(status: int) -> Any:
    def refuse(door: _Door, body: dict[str, Any], nth: int) -> Iterator[dict[str, Any]]:
        key = str(door.headers.get("Authorization"))
        raise Refusal(status, json.dumps({"error": {"message": f"Not with {key}", "type": "x"}}))

    return refuse


def sometimes(door: _Door, body: dict[str, Any], nth: int) -> Iterator[dict[str, Any]]:
    """Is overloaded the first time."""
    if nth == 1:
        raise Refusal(503, json.dumps({"error": "overloaded"}))
    return echo(door, body, nth)


def hanging(door: _Door, body: dict[str, Any], nth: int) -> Iterator[dict[str, Any]]:
    time.sleep(PATIENCE_S)
    yield {}


def slow(door: _Door, body: dict[str, Any], nth: int) -> Iterator[dict[str, Any]]:
    """Twenty words in two seconds."""
    for number in range(20):
        time.sleep(0.1)
        yield {"content": f"{number} "}


MODELS: dict[str, Any] = {
    "gated": gated,
    "second": second,
    "cut once": cut_once,
    "thinker": thinker,
    "reasoner": reasoner,
    "json": jsonist,
    "classify": classify,
    "caller": caller,
    "keyless": refusing(401),
    "limited": refusing(429),
    "sometimes": sometimes,
    "hanging": hanging,
    "slow": slow,
}


if __name__ == "__main__":
    server = _State()
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever(poll_interval=0.05)
