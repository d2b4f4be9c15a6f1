"""A small closed-loop load generator: so many callers, each on one kept connection, one request after the other."""

from __future__ import annotations

import socket
import statistics
import threading
import time
from dataclasses import dataclass

DIFY_RUNS_S = 17.5
"""Dify 1.14 on such a machine: start → template → end, 32 callers."""


@dataclass(frozen=True)
class Load:
    """What a number of callers saw: requests a second, and the median time of one, in milliseconds."""

    rate: float
    median_ms: float


def http_post(path: str, key: str, body: bytes) -> bytes:
    """A POST as it goes over the wire, on a connection that is kept."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Post:
    """One HTTP request as bytes, sent again and again over raw sockets: the client must not be what is measured."""

    def __init__(self, address: tuple[str, int], path: str, key: str, body: bytes) -> None:
        self.address = address
        self._bytes = http_post(path, key, body)

    def over(self, connection: socket.socket) -> float:
        """Sends it and reads the answer; the time that took in seconds. Raises unless the status is 200."""
        start = time.perf_counter()
        connection.sendall(self._bytes)
        answer = connection.recv(65536)
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(65536)
        head, _, rest = answer.partition(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
        )
        while len(rest) < length:
            rest += connection.recv(65536)
        took = time.perf_counter() - start
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(rest.decode())
        return took


def measure(post: Post, callers: int, seconds: float) -> Load:
    """Runs the callers for so long."""
    times: list[list[float]] = [[] for _ in range(callers)]
    until = time.perf_counter() + seconds

    def call(mine: list[float]) -> None:
        with socket.create_connection(post.address) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while time.perf_counter() < until:
                mine.append(post.over(connection))

    threads = [threading.Thread(target=call, args=(mine,)) for mine in times]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = [t for mine in times for t in mine]
    return Load(len(every) / seconds, statistics.median(every) * 1000)
