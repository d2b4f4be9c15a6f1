"""Web sites for the tests: real HTTP servers that answer as their pages say, and keep what they were asked."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Visit:
    """A request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Page:
    """What a path answers. `after` holds it back until it is set."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    after: threading.Event | None = None


class Site(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, pages: Mapping[str, Page], host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Door)
        self.pages = dict(pages)
        self.visits: list[Visit] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no trouble of ours."""


class _Door(http.server.BaseHTTPRequestHandler):
    server: Site
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.visits.append(Visit(self.command, self.path, headers, self.rfile.read(length)))
        page = self.server.pages.get(urlsplit(self.path).path, Page(b"Nothing here.", 404))
        if page.after is not None:
            page.after.wait(60)
        self.send_response(page.status)
        for name, value in {
            "Content-Type": "text/plain",
            "Content-Length": str(len(page.body)),
            **page.headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _answer

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def site(pages: Mapping[str, Page] | None = None, host: str = "127.0.0.1", port: int = 0) -> Iterator[Site]:
    """A site for the length of a block."""
    server = Site(pages or {}, host, port)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        for page in server.pages.values():
            if page.after is not None:
                page.after.set()
        server.shutdown()
        server.server_close()


def redirect(location: str, status: int = 302) -> Page:
    return Page(b"", status, {"Location": location})
