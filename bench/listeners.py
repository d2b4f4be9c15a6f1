"""1,000 event streams on one process: when an event arrives, what a listener costs, and the same of a bare route."""

from __future__ import annotations

import random
import resource
import selectors
import socket
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.served import Served, served

LISTENERS, ROUNDS, SINGLES = 1000, 15, 200
PAUSE_S, SINGLE_PAUSE_S = 0.15, 0.01


@dataclass(frozen=True)
class Arrivals:
    """Milliseconds from the commit's beginning to the listeners' receipt, and the server's memory a listener."""

    p50_ms: float
    p99_ms: float
    listener_kb: float


def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(f"\n{LISTENERS} event streams on one process: from commit to receipt, and the server's memory for a listener")
    print(
        f"{'':>22} {'p50 ms':>8} {'p99 ms':>8} {'KB':>6}   "
        f"{'bare p50':>9} {'bare p99':>9} {'bare KB':>8} {'p50 ratio':>10}"
    )
    _compare("all on one run", _one_run, _all_bare, ROUNDS, PAUSE_S)
    _compare("one on each of 1,000", _many_runs, _each_bare, SINGLES, SINGLE_PAUSE_S)


Round = Callable[[], object]


def _compare(
    what: str,
    ours: Callable[[Served, Listeners], Round],
    theirs: Callable[[Served, Listeners], Round],
    rounds: int,
    pause_s: float,
) -> None:
    run, bare = (_measure(begin, rounds, pause_s) for begin in (ours, theirs))
    print(
        f"{what:>22} {run.p50_ms:>8.1f} {run.p99_ms:>8.1f} {run.listener_kb:>6.1f}   {bare.p50_ms:>9.1f} "
        f"{bare.p99_ms:>9.1f} {bare.listener_kb:>8.1f} {run.p50_ms / bare.p50_ms:>9.2f}x"
    )


def _measure(begin: Callable[[Served, Listeners], Round], rounds: int, pause_s: float) -> Arrivals:
    with served() as server, Listeners(server) as listeners:
        tell = begin(server, listeners)
        tell()
        listeners.hear(0.5)
        listeners.lags_s.clear()
        for _ in range(rounds):
            tell()
            listeners.hear(pause_s)
        listeners.hear(0.3)
        cuts = statistics.quantiles(listeners.lags_s, n=100)
        return Arrivals(cuts[49] * 1000, cuts[98] * 1000, listeners.memory_kb)


def _one_run(server: Served, listeners: Listeners) -> Round:
    run_id = server.begin()
    listeners.connect([f"/v1/workflow/{run_id}/events?user=bench"] * LISTENERS)
    return lambda: server.http.post("/tell", json=[run_id])


def _many_runs(server: Served, listeners: Listeners) -> Round:
    run_ids = [server.begin() for _ in range(LISTENERS)]
    listeners.connect([f"/v1/workflow/{run_id}/events?user=bench" for run_id in run_ids])
    return lambda: server.http.post("/tell", json=[random.choice(run_ids)])


def _all_bare(server: Served, listeners: Listeners) -> Round:
    listeners.connect(["/bare/events"] * LISTENERS)
    return lambda: server.http.post("/bare/tell", json=[])


def _each_bare(server: Served, listeners: Listeners) -> Round:
    listeners.connect(["/bare/events"] * LISTENERS)
    return lambda: server.http.post("/bare/tell", json=[random.randrange(LISTENERS)])


class Listeners:
    """Raw sockets that note how old each event is when they get it."""

    def __init__(self, server: Served) -> None:
        self._server = server
        self._selector = selectors.DefaultSelector()
        self._sockets: list[socket.socket] = []
        self.lags_s: list[float] = []
        self.memory_kb = 0.0

    def __enter__(self) -> Listeners:
        return self

    def __exit__(self, *exc: object) -> None:
        for each in self._sockets:
            each.close()

    def connect(self, paths: list[str]) -> None:
        before = self._server.memory_bytes()
        for path in paths:
            line = socket.create_connection(self._server.address)
            head = f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {self._server.key}\r\n\r\n"
            line.sendall(head.encode())
            self._sockets.append(line)
        for line in self._sockets:
            while b"event: ping" not in (said := line.recv(4096)):
                if b" 200 " not in said:
                    raise RuntimeError(said.decode())
            line.setblocking(False)
            self._selector.register(line, selectors.EVENT_READ)
        time.sleep(0.3)
        self.memory_kb = (self._server.memory_bytes() - before) / len(paths) / 1024

    def hear(self, seconds: float) -> None:
        """Reads what comes, for so long."""
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0:
            for key, _ in self._selector.select(left_s):
                said = key.fileobj.recv(65536)  # type: ignore[union-attr]
                got_s = time.monotonic()
                self.lags_s += [got_s - float(each) for each in said.split(b"@")[1::2]]


if __name__ == "__main__":
    main()
