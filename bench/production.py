"""The production form on one machine: runs on PostgreSQL, the way to a worker and back, recovery, start and memory."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg

from app.cluster.daemon import free_port
from bench.load import DIFY_RUNS_S, Load, Post, measure

ROUNDS, ROUND_S = 5, 2.0
PICTURES, KILLS = 60, 5
ENV = {k: v for k, v in os.environ.items() if not k.startswith(("ATELIER_", "S3_"))}


def main() -> None:
    with tempfile.TemporaryDirectory() as name, _cluster(Path(name)) as state:
        folder = Path(name)
        _runs(folder, state)
        _pictures(folder, state)
        _recovery(folder, state)
        _start_and_memory(folder, state)


@contextmanager
def _cluster(folder: Path) -> Iterator[dict[str, Any]]:
    """A cluster of two API processes and two workers that paint nothing."""
    words = ["--folder", str(folder), "--setting", "ATELIER_WORKER_MODULE=bench.stamps"]
    command = [sys.executable, "-m", "app", "cluster", *words]
    supervisor = subprocess.Popen(command, env=ENV, stdout=subprocess.DEVNULL)
    try:
        state = folder / "state.json"
        while not state.exists():
            if supervisor.poll() is not None:
                raise RuntimeError("the cluster did not start")
            time.sleep(0.1)
        yield json.loads(state.read_text())
    finally:
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait()


def _environment(folder: Path, state: dict[str, Any]) -> dict[str, str]:
    more = {"DATABASE_URL": state["database_url"], "REDIS_URL": state["redis_url"], "ATELIER_WORKER": "none"}
    return ENV | more | {"ATELIER_DATA_DIR": str(folder / "data")}


def _echo_key(env: dict[str, str]) -> str:
    for words in (["workflows", "publish", "workflows/echo.yml"], ["keys", "create", "--app", "echo"]):
        command = [sys.executable, "-m", "app", *words]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _runs(folder: Path, state: dict[str, Any]) -> None:
    """Two servers with the bare route beside the API, as `bench.runs` has one, on the cluster's database."""
    ports, env = [free_port(), free_port()], _environment(folder, state)
    key = _echo_key(env)
    servers = [subprocess.Popen([sys.executable, "-m", "bench.bare", str(port)], env=env) for port in ports]
    try:
        for port in ports:
            _until(lambda port=port: httpx.get(f"http://127.0.0.1:{port}/livez").status_code == 200)  # type: ignore[misc]
        _compare(ports, key)
    finally:
        for server in servers:
            server.terminate()
            server.wait()


def _compare(ports: list[int], key: str) -> None:
    body = json.dumps({"inputs": {"text": "hello"}, "response_mode": "blocking", "user": "bench"}).encode()
    addresses = [("127.0.0.1", port) for port in ports]
    bare = [Post(address, "/bare", key, body) for address in addresses]
    run = [Post(address, "/v1/workflows/run", key, body) for address in addresses]
    for posts in (bare, run):
        _measure_both(posts, 4, 1.0)
    print("\nstart → template → end over HTTP (PostgreSQL, two API processes) against a bare route with one insert")
    print(f"{'callers':>8} {'bare ms':>9} {'run ms':>9} {'bare/s':>9} {'runs/s':>9} {'time ratio':>11} {'Dify':>8}")
    for callers in (1, 8, 32):
        pairs = [(_measure_both(bare, callers, ROUND_S), _measure_both(run, callers, ROUND_S)) for _ in range(ROUNDS)]
        ratio = statistics.median(r.median_ms / b.median_ms for b, r in pairs)
        b, r = sorted(pairs, key=lambda pair: pair[1].rate)[len(pairs) // 2]
        line = f"{callers:>8} {b.median_ms:>9.2f} {r.median_ms:>9.2f} {b.rate:>9.0f} {r.rate:>9.0f} {ratio:>10.2f}x"
        print(f"{line} {r.rate / DIFY_RUNS_S:>7.0f}x")


def _measure_both(posts: list[Post], callers: int, seconds: float) -> Load:
    """The callers shared out over the servers; one caller asks one of them."""
    if callers == 1:
        return measure(posts[0], 1, seconds)
    loads: list[Load] = []
    half = callers // len(posts)
    threads = [threading.Thread(target=lambda post=post: loads.append(measure(post, half, seconds))) for post in posts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Load(sum(load.rate for load in loads), statistics.mean(load.median_ms for load in loads))


def _pictures(folder: Path, state: dict[str, Any]) -> None:
    """From the request to the worker's first instruction, and from its last to the answer, against bare commits."""
    there, back, commits = [], [], []
    with (
        httpx.Client(base_url=state["url"], headers=_bearer(state), timeout=60) as http,
        psycopg.connect(state["database_url"], autocommit=True) as db,
    ):
        db.execute("CREATE TABLE IF NOT EXISTS bench_commits (n int)")
        for number in range(PICTURES):
            began = time.monotonic()
            http.post("/v1/workflows/run", json=_picture(1)).raise_for_status()
            ended = time.monotonic()
            first, last = map(float, (folder / "data" / "stamps").read_text().splitlines()[-1].split())
            asked = time.monotonic()
            db.execute("INSERT INTO bench_commits VALUES (%s)", (number,))
            commits.append(time.monotonic() - asked)
            there.append(first - began)
            back.append(ended - last)
            time.sleep(0.05)
    commit_ms, there_ms, back_ms = (statistics.median(times) * 1000 for times in (commits, there, back))
    print("\na run with one worker step (Redis, idle workers, through nginx), medians")
    print(f"a bare commit {commit_ms:.1f} ms")
    print(f"request → worker's first instruction {there_ms:.1f} ms: {there_ms - 2 * commit_ms:+.1f} ms to two commits")
    print(f"worker's last instruction → answer {back_ms:.1f} ms: {back_ms - commit_ms:+.1f} ms to one commit")


def _recovery(folder: Path, state: dict[str, Any]) -> None:
    """SIGKILL for the worker that holds a step → the next attempt has begun, with another worker free."""
    taken = []
    with (
        httpx.Client(base_url=state["url"], headers=_bearer(state), timeout=120) as http,
        psycopg.connect(state["database_url"], autocommit=True) as db,
    ):
        for _ in range(KILLS):
            asking = threading.Thread(target=lambda: http.post("/v1/workflows/run", json=_picture(150)))
            asking.start()
            held = _until(lambda: db.execute("SELECT id, worker_id FROM steps WHERE status = 'running'").fetchone())
            os.kill(_pid_of(folder, held[1]), signal.SIGKILL)
            killed = time.monotonic()
            again = "SELECT 1 FROM steps WHERE id = %s AND attempt = 2"
            _until(lambda: db.execute(again, (held[0],)).fetchone(), 0.005)  # noqa: B023
            taken.append(time.monotonic() - killed)
            asking.join()
            time.sleep(6)  # until the killed one is back
    print(
        f"\nkill -9 of the worker that holds a step → the next attempt begins: "
        f"median {statistics.median(taken):.2f} s, longest {max(taken):.2f} s"
    )


def _pid_of(folder: Path, worker_id: str) -> int:
    for process in json.loads((folder / "state.json").read_text())["processes"]:
        log = folder / "logs" / f"{process['name']}.log"
        if process["name"].startswith("worker") and worker_id in log.read_text(errors="replace"):
            return int(process["pid"])
    raise RuntimeError(f"no worker's log speaks of {worker_id}")


def _start_and_memory(folder: Path, state: dict[str, Any]) -> None:
    times, sizes = [], []
    for _ in range(3):
        port = free_port()
        env = _environment(folder, state) | {"ATELIER_PORT": str(port)}
        began = time.monotonic()
        api = subprocess.Popen([sys.executable, "-m", "app", "serve"], env=env, stdout=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{port}"
            _until(lambda: httpx.get(f"{url}/livez").status_code == 200, 0.005)  # noqa: B023
            times.append(time.monotonic() - began)
            for _ in range(20):
                httpx.get(f"{url}/readyz")
            sizes.append(_resident_mb(api.pid))
        finally:
            api.terminate()
            api.wait()
    print(
        f"\nan API process on PostgreSQL and Redis: serves after {statistics.median(times):.2f} s, "
        f"holds {statistics.median(sizes):.0f} MB"
    )


def _resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def _picture(steps: int) -> dict[str, Any]:
    return {"inputs": {"prompt": "p", "steps": steps, "seed": 1}, "response_mode": "blocking", "user": "bench"}


def _bearer(state: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {state['key']}"}


def _until(get: Callable[[], Any], pause_s: float = 0.02) -> Any:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            if found := get():
                return found
        except httpx.TransportError:
            pass
        time.sleep(pause_s)
    raise RuntimeError("not within a minute")


if __name__ == "__main__":
    main()
