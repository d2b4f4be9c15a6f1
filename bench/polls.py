"""Polling: what a 304 costs beside a bare Starlette route that answers 304, and what 200 pollers take of a core."""

from __future__ import annotations

import socket
import statistics
import time

from bench.served import Served, served

ROUNDS, REQUESTS = 6, 1500
POLLERS, HERTZ, SECONDS = 200, 0.5, 8.0


class Get:
    """One conditional GET as bytes, sent again and again over a kept connection."""

    def __init__(self, server: Served, path: str, tag: str) -> None:
        head = (
            f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {server.key}\r\nIf-None-Match: {tag}\r\n\r\n"
        )
        self._bytes = head.encode()

    def over(self, connection: socket.socket) -> float:
        """Seconds that the 304 took. Raises for anything else."""
        start = time.perf_counter()
        connection.sendall(self._bytes)
        answer = connection.recv(4096)
        while not answer.endswith(b"\r\n\r\n"):
            answer += connection.recv(4096) or b"the connection was closed\r\n\r\n"
        took = time.perf_counter() - start
        if not answer.startswith(b"HTTP/1.1 304"):
            raise RuntimeError(answer.decode())
        return took


def main() -> None:
    with served() as server:
        _compare(server)
        _pollers(server)


def _tagged(server: Served, run_id: str) -> Get:
    path = f"/v1/workflows/run/{run_id}"
    return Get(server, path, server.http.get(path).headers["etag"])


def _compare(server: Served) -> None:
    bare, ours = Get(server, "/bare/304", 'W/"4"'), _tagged(server, server.begin())
    with socket.create_connection(server.address) as line:
        pairs = [(_cost(server, bare, line), _cost(server, ours, line)) for _ in range(ROUNDS)]
    took = [statistics.median(pair[side][0] for pair in pairs) for side in (0, 1)]
    cpu = [statistics.median(pair[side][1] for pair in pairs) for side in (0, 1)]
    print("\na poll without news (304) against a bare Starlette route that answers 304")
    print(f"{'':>10} {'bare µs':>9} {'poll µs':>9} {'ratio':>7}")
    for what, (theirs, own) in (("latency", took), ("CPU", cpu)):
        print(f"{what:>10} {theirs:>9.0f} {own:>9.0f} {own / theirs:>6.2f}x")


def _cost(server: Served, get: Get, line: socket.socket) -> tuple[float, float]:
    """(median latency, the server's CPU time) of a request, in microseconds."""
    before = server.cpu_s()
    took = [get.over(line) for _ in range(REQUESTS)]
    return statistics.median(took) * 1e6, (server.cpu_s() - before) / REQUESTS * 1e6


def _pollers(server: Served) -> None:
    run_ids = [server.begin() for _ in range(POLLERS)]
    idle_cpu, idle_reads = _meanwhile(server, lambda: time.sleep(SECONDS / 2), SECONDS / 2)

    polls = [_tagged(server, run_id) for run_id in run_ids]

    def poll() -> None:
        began = time.monotonic()
        line = socket.create_connection(server.address)
        for i in range(int(SECONDS * HERTZ) * POLLERS):
            time.sleep(max(0.0, began + i / HERTZ / POLLERS - time.monotonic()))
            polls[i % POLLERS].over(line)
        line.close()

    cpu, reads = _meanwhile(server, poll, SECONDS)
    print(
        f"{POLLERS} pollers at {HERTZ:g} Hz: {(cpu - idle_cpu) * 100:.1f} % of a core (idle {idle_cpu * 100:.1f} %); "
        f"queries a second {reads:.1f}, idle {idle_reads:.1f}, polls {POLLERS * HERTZ:.0f}"
    )


def _meanwhile(server: Served, work, seconds: float) -> tuple[float, float]:
    """(share of a core, queries a second) while the work is done."""
    cpu, reads = server.cpu_s(), server.reads()
    work()
    return (server.cpu_s() - cpu) / seconds, (server.reads() - reads) / seconds


if __name__ == "__main__":
    main()
