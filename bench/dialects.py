"""What a dialect adds to a run that blocks, and how much memory its base64 takes; the engine paints in no time."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.large import BYTES

CALLS, WARM = 400, 40
RUN = {"inputs": {"prompt": "a red circle", "steps": 1, "seed": 7}, "response_mode": "blocking", "user": "bench"}
OPENAI = {"prompt": "a red circle", "steps": 1, "seed": 7, "user": "bench"}
OLLAMA = {"model": "atelier-shapes", "prompt": "a red circle", "steps": 1, "options": {"seed": 7}, "stream": False}

Call = Callable[[], httpx.Response]


def main() -> None:
    with served() as (http, pid):
        _latency(http, pid)
        _memory(http, pid)


@contextmanager
def served() -> Iterator[tuple[httpx.Client, int]]:
    """A server whose worker is `bench.large`: a client with its key, and its process."""
    with tempfile.TemporaryDirectory() as folder:
        env = {name: value for name, value in os.environ.items() if not name.startswith("ATELIER_")}
        env |= {"ATELIER_DATA_DIR": folder, "ATELIER_PORT": "0", "PYTHONUNBUFFERED": "1"}
        env |= {"ATELIER_OLLAMA_PORT": "none", "ATELIER_LLAMAGO_PORT": "none", "ATELIER_PAINTER_STEP_S": "0"}
        env |= {"ATELIER_WORKER_MODULE": "bench.large", "ATELIER_LOG_LEVEL": "error"}
        server = subprocess.Popen([sys.executable, "-m", "app", "serve"], env=env, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1]
            headers = {"Authorization": f"Bearer {(Path(folder) / 'key').read_text().strip()}"}
            with httpx.Client(base_url=url, headers=headers, timeout=60) as http:
                while http.get("/readyz").status_code != 200:
                    time.sleep(0.1)
                yield http, server.pid
        finally:
            server.terminate()
            server.wait()


def _latency(http: httpx.Client, pid: int) -> None:
    """Each dialect against Dify's in turns: whatever else the machine does, it does to both.

    The time that the server computes is less moved by that than the time that passes.
    """
    dify = _posting(http, "/v1/workflows/run", RUN)

    def fetched() -> httpx.Response:
        return http.get(dify().json()["data"]["outputs"]["files"][0]["url"]).raise_for_status()

    base64 = _posting(http, "/v1/images/generations", OPENAI | {"response_format": "b64_json"})
    print("\na picture that costs nothing, over HTTP, against Dify's blocking run; medians of calls in turns")
    print(f"{'':>16} {'Dify ms':>9} {'its ms':>9} {'added ms':>9} {'CPU: Dify':>10} {'its':>7} {'added ms':>9}")
    for name, plain, call in (
        ("OpenAI, a URL", dify, _posting(http, "/v1/images/generations", OPENAI)),
        ("OpenAI, base64", dify, base64),
        ("Ollama", dify, _posting(http, "/api/generate", OLLAMA)),
        ("  after a GET", fetched, base64),  # what both have then is the same: the picture's bytes
    ):
        pairs = [(_timed(plain, pid), _timed(call, pid)) for _ in range(WARM + CALLS)][WARM:]
        columns = [[took[i] * 1000 for took in side] for i in (0, 1) for side in zip(*pairs, strict=True)]
        one, other, cpu, other_cpu = map(statistics.median, columns)
        wall = f"{one:>9.2f} {other:>9.2f} {other - one:>9.2f}"
        print(f"{name:>16} {wall} {cpu:>10.2f} {other_cpu:>7.2f} {other_cpu - cpu:>9.2f}")


def _memory(http: httpx.Client, pid: int) -> None:
    """Of the server: how far its memory rises above what it has, while it answers."""
    large = _posting(http, "/v1/images/generations", OPENAI | {"prompt": "large", "response_format": "b64_json"})
    for _ in range(5):
        large()
    rises = [_rise(pid, large) for _ in range(10)]
    print(f"\nan answer of {BYTES * 4 // 3 / 2**20:.0f} MiB of base64: the server's memory rises by")
    print(f"{statistics.median(rises) / 2**20:.2f} MiB (median of 10; the most {max(rises) / 2**20:.2f})")


def _rise(pid: int, call: Call) -> int:
    """Bytes."""
    process = Path(f"/proc/{pid}")
    (process / "clear_refs").write_text("5")  # the peak begins anew
    before = _status(process)["VmRSS"]
    assert len(call().content) > BYTES * 4 // 3
    return (_status(process)["VmHWM"] - before) * 1024


def _status(process: Path) -> dict[str, int]:
    lines = (line.split() for line in (process / "status").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if words[-1] == "kB"}


def _posting(http: httpx.Client, path: str, body: Mapping[str, Any]) -> Call:
    return lambda: http.post(path, json=body).raise_for_status()


def _timed(call: Call, pid: int) -> tuple[float, float]:
    """Seconds that pass, and that the server computes."""
    before_s, began = _cpu_s(pid), time.perf_counter()
    call()
    return time.perf_counter() - began, _cpu_s(pid) - before_s


def _cpu_s(pid: int) -> float:
    """Of all threads of the process."""
    return sum(int(each.read_text().split()[0]) for each in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


if __name__ == "__main__":
    main()
