"""A proxy before an HTTP server that does to requests what networks and servers in trouble do."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Trouble(Enum):
    ERROR = "answers 500"
    SLOW = "answers after a while"
    CUT = "ends the connection in the middle of the request's body"
    TORN = "passes on a body with another byte in it"
    HALF = "ends the connection in the middle of the answer's body"
    LOST = "passes the request on and loses the answer"


class Proxy:
    """`troubles` happen to the next requests of a method, one each; `always` to all of them."""

    def __init__(self, port: int) -> None:
        self.to_port = port
        self.url = ""
        self.slow_s = 3.0
        self.troubles: dict[str, list[Trouble]] = {}
        self.always: dict[str, Trouble] = {}
        self.seen: list[str] = []

    def trouble(self, method: str) -> Trouble | None:
        self.seen.append(method)
        waiting = self.troubles.get(method)
        return waiting.pop(0) if waiting else self.always.get(method)


@contextmanager
def proxy_before(port: int) -> Iterator[Proxy]:
    proxy = Proxy(port)

    class Passing(_Passing):
        way = proxy

    server = ThreadingHTTPServer(("127.0.0.1", 0), Passing)
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Passing(BaseHTTPRequestHandler):
    way: Proxy
    protocol_version = "HTTP/1.1"  # else `Expect: 100-continue` goes unanswered, and each PUT waits a second for it

    def do_GET(self) -> None:
        trouble, length = self.way.trouble(self.command), int(self.headers.get("content-length") or 0)
        self.close_connection = True
        if trouble is Trouble.CUT:
            self.rfile.read(length // 2)
            return
        body = self.rfile.read(length)
        if trouble is Trouble.SLOW:
            time.sleep(self.way.slow_s)
        if trouble is Trouble.ERROR:
            self.answer(500, [], b"<Error><Code>InternalError</Code><Message>no</Message></Error>")
            return
        if trouble is Trouble.TORN:
            body = body[:-1] + bytes([body[-1] ^ 1])
        status, headers, content = self.passed_on(body)
        if trouble is not Trouble.LOST:
            self.answer(status, headers, content, half=trouble is Trouble.HALF)

    do_HEAD = do_PUT = do_DELETE = do_POST = do_GET

    def passed_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.way.to_port)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.getheaders(), answer.read()

    def answer(self, status: int, headers: list[tuple[str, str]], content: bytes, half: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("content-length", str(len(content)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if half else content)

    def log_message(self, format: str, *args: object) -> None:
        pass
