"""How long accepting a run takes when callers don't wait for each other: `response_mode: async`, no worker free.

Open loop at three rates, against the bare route of the same server, which does one committed insert: rounds of both
alternate. Each run that is accepted is a picture in the queue, so the queue grows all the time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from app.cluster.daemon import free_port
from app.cluster.servers import PostgreSQL, Redis
from bench.load import http_post
from bench.open_loop import OpenLoop, percentile

ROUNDS = 2
SECONDS_AT = {50: 1.5, 200: 0.75, 800: 0.75}
"""Requests a second, and how long a round takes; together with the starts, 26 s."""

PERCENTILES = (0.50, 0.95, 0.99)
APP = "text-to-image"
# A queue that nobody shortens, and whose limits are counted but never reached.
QUEUE = {"ATELIER_WORKER": "none", "ATELIER_QUEUE_DEPTH": "1000000", "ATELIER_QUEUE_DEPTH_PER_KEY": "1000000"}
ENV = {k: v for k, v in os.environ.items() if not k.startswith(("ATELIER_", "S3_", "DATABASE_URL", "REDIS_URL"))}
ENV["ATELIER_QUEUE_DEPTH_PER_KEY"] = "2000"  # all that is offered here waits


def main() -> None:
    print("\nsubmitting pictures (202, no worker free), open loop, against a bare route with one committed insert; ms")
    titles = [f"{of} {name}" for of in ("bare", "run", "ratio") for name in ("p50", "p95", "p99")]
    print(f"{'':>10} {'req/s':>5} " + " ".join(f"{title:>9}" for title in (*titles, "sent late")))
    with tempfile.TemporaryDirectory() as name:
        _compare("SQLite", ENV | QUEUE | {"ATELIER_DATA_DIR": f"{name}/embedded"})
        with _production(Path(name)) as more:
            _compare("PostgreSQL", ENV | QUEUE | {"ATELIER_DATA_DIR": f"{name}/production"} | more)


@contextmanager
def _production(folder: Path) -> Iterator[dict[str, str]]:
    """The variables of the production form, with servers for it."""
    with ExitStack() as stack:
        postgres, redis = PostgreSQL(folder / "postgres"), Redis(folder / "redis")
        for server in (postgres, redis):
            stack.callback(server.stop)
            server.start()
        yield {"DATABASE_URL": postgres.url, "REDIS_URL": redis.url}


def _compare(database: str, env: dict[str, str]) -> None:
    _atelier(env, "db", "upgrade")
    _atelier(env, "workflows", "publish", f"workflows/{APP}.yml", "--app", APP)
    key = _atelier(env, "keys", "create", "--app", APP)
    port = free_port()
    server = subprocess.Popen([sys.executable, "-m", "bench.bare", str(port)], env=env, stderr=subprocess.DEVNULL)
    try:
        _until_it_listens(port)
        body = json.dumps({"inputs": {"prompt": "p"}, "response_mode": "async", "user": "bench"}).encode()
        bare = _Side(port, "/bare", key, body, 200, server.pid)
        run = _Side(port, "/v1/workflows/run", key, body, 202, server.pid)
        for side in (bare, run):
            side.loop.offer(200, 0.5)
        for rate, seconds in SECONDS_AT.items():
            _alternate(bare, run, rate, seconds)
            _print(database, rate, bare.times_ms, run.times_ms, bare.late_ms + run.late_ms)
        cpu = [side.cpu_s / side.requests * 1e6 for side in (bare, run)]
        print(f"{database:>10} CPU of the server a request: {cpu[0]:.0f} µs, {cpu[1]:.0f} µs, {cpu[1] / cpu[0]:.2f}x")
    finally:
        server.terminate()
        server.wait()


class _Side:
    """One of the two that are compared: its times at one rate, and what all its requests cost the server."""

    def __init__(self, port: int, path: str, key: str, body: bytes, status: int, pid: int) -> None:
        self.loop = OpenLoop(("127.0.0.1", port), http_post(path, key, body), status)
        self.times_ms: list[float] = []
        self.late_ms: list[float] = []
        self.requests, self.cpu_s = 0, 0.0
        self._pid = pid

    def offer(self, rate: int, seconds: float) -> None:
        before_s = _cpu_s(self._pid)
        offered = self.loop.offer(rate, seconds)
        self.cpu_s += _cpu_s(self._pid) - before_s
        self.requests += len(offered.times_ms)
        self.times_ms += offered.times_ms
        self.late_ms += offered.late_ms


def _alternate(bare: _Side, run: _Side, rate: int, seconds: float) -> None:
    for side in (bare, run):
        side.times_ms, side.late_ms = [], []
    for _ in range(ROUNDS):
        for side in (bare, run):
            side.offer(rate, seconds)


def _cpu_s(pid: int) -> float:
    """What all threads of the process have had of the processors: unlike time, it knows nothing of other processes."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def _print(database: str, rate: int, bare: list[float], run: list[float], late: list[float]) -> None:
    b, r = ([percentile(times, share) for share in PERCENTILES] for times in (bare, run))
    ratios = [f"{mine / theirs:.2f}x" for mine, theirs in zip(r, b, strict=True)]
    values = [*(f"{value:.2f}" for value in (*b, *r)), *ratios, f"{percentile(late, 0.99):.2f}"]
    print(f"{database:>10} {rate:>5} " + " ".join(f"{value:>9}" for value in values))


def _atelier(env: dict[str, str], *words: str) -> str:
    command = [sys.executable, "-m", "app", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.strip()


def _until_it_listens(port: int) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            httpx.get(f"http://127.0.0.1:{port}/livez").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError("the server does not listen")


if __name__ == "__main__":
    main()
