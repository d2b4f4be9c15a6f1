"""An open-loop load generator: requests leave on a fixed schedule, whether or not earlier ones have been answered.

The time of a request counts from the moment at which it was due, not from the one at which it left. So whatever falls
behind, the server or this generator, makes the requests late, as it would for callers who know nothing of each other.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass, field

_LINES_AT_FIRST, _LINES_AT_MOST = 32, 2048
_PATIENCE_S = 30.0


@dataclass
class Offered:
    """What became of one round: the time of each request and how late it left, in milliseconds."""

    times_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)


def percentile(values: list[float], share: float) -> float:
    """The smallest value that is not below this share of them."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


@dataclass
class _Line:
    """One kept connection, with at most one request on it."""

    socket: socket.socket
    due: float = 0.0
    answer: bytes = b""

    def is_answered(self) -> bool:
        head, end, rest = self.answer.partition(b"\r\n\r\n")
        if not end:
            return False
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        return len(rest) >= int(lengths[0].split(b":")[1])


class OpenLoop:
    """Sends the same request again and again; each answer must have the expected status."""

    def __init__(self, address: tuple[str, int], request: bytes, status: int) -> None:
        self._address = address
        self._request = request
        self._expected = b"HTTP/1.1 %d " % status

    def offer(self, rate: float, seconds: float) -> Offered:
        """`rate` requests a second for so long; returns when all have been answered. Raises for any other answer."""
        lines = {line.socket.fileno(): line for line in (self._connect() for _ in range(_LINES_AT_FIRST))}
        self._lines, self._free, self._failed = lines, deque(lines.values()), b""
        self._poll, self._offered = select.epoll(), Offered()
        for number in lines:
            self._poll.register(number, select.EPOLLIN)
        count = int(rate * seconds)
        reading = threading.Thread(target=self._read, args=(count,))
        reading.start()
        self._send(count, rate)
        reading.join()
        self._poll.close()
        for line in self._lines.values():
            line.socket.close()
        if self._failed:
            raise RuntimeError(self._failed.decode(errors="replace"))
        return self._offered

    def _connect(self) -> _Line:
        connection = socket.create_connection(self._address)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _Line(connection)

    def _send(self, count: int, rate: float) -> None:
        """All requests, each when it is due, on a line that is free; when none is, on a new one."""
        start = time.perf_counter() + 0.01
        for number in range(count):
            due = start + number / rate
            if (early_s := due - time.perf_counter()) > 0:
                time.sleep(early_s)
            line = self._free.popleft() if self._free else self._new_line()
            line.due = due
            self._offered.late_ms.append((time.perf_counter() - due) * 1000)
            line.socket.sendall(self._request)
            if self._failed:
                return

    def _new_line(self) -> _Line:
        if len(self._lines) == _LINES_AT_MOST:
            raise RuntimeError(f"{_LINES_AT_MOST} requests are unanswered: the server can't keep up")
        line = self._connect()
        self._lines[line.socket.fileno()] = line
        self._poll.register(line.socket.fileno(), select.EPOLLIN)
        return line

    def _read(self, count: int) -> None:
        end = time.perf_counter() + _PATIENCE_S
        while len(self._offered.times_ms) < count and not self._failed:
            for number, _ in self._poll.poll(1.0):
                self._take(self._lines[number])
            if time.perf_counter() > end:
                self._failed = b"not everything was answered in time"

    def _take(self, line: _Line) -> None:
        received = line.socket.recv(65536)
        now = time.perf_counter()
        line.answer += received
        if not received:
            self._failed = b"the server hung up"
        elif line.is_answered():
            if not line.answer.startswith(self._expected):
                self._failed = line.answer
            line.answer = b""
            self._offered.times_ms.append((now - line.due) * 1000)
            self._free.append(line)
