"""Receivers of webhooks for the tests: real HTTP servers that keep what they are sent and answer as they are told."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Post:
    """One delivery as it came in."""

    path: str
    headers: dict[str, str]
    body: bytes
    answered: int = 0

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


@dataclass
class Script:
    """What a receiver answers: one status after the other, the last for ever; nothing while `open` is unset."""

    statuses: list[int] = field(default_factory=lambda: [200])
    headers: dict[str, str] = field(default_factory=dict)
    open: threading.Event = field(default_factory=threading.Event)

    def next(self) -> int:
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]


class Receiver(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Door)
        self.script = script
        self.posts: list[Post] = []
        self.scheme = "http"

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    @property
    def accepted(self) -> list[Post]:
        return [post for post in self.posts if 200 <= post.answered < 300]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A sender that hangs up is no trouble of ours."""


class _Door(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        post = Post(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        self.server.posts.append(post)
        self.server.script.open.wait(60)
        status = self.server.script.next()
        post.answered = status
        self.send_response(status)
        for name, value in self.server.script.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def receiving(
    *statuses: int, hangs: bool = False, headers: dict[str, str] | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[Receiver]:
    """A receiver for the length of a block; `hangs`: it reads and does not answer until its script is opened."""
    script = Script(list(statuses) or [200], headers or {})
    if not hangs:
        script.open.set()
    server = Receiver(script)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        server.scheme = "https"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        script.open.set()
        server.shutdown()
        server.server_close()
