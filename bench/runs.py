"""A start → template → end run over HTTP against the same server's bare route that does one committed insert."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.installation import create_key, open_store
from app.runs.publishing import Edition, publish
from app.settings import load_settings
from bench.load import DIFY_RUNS_S, Post, measure

ROUNDS, ROUND_S = 5, 2.0


def main() -> None:
    with serving("echo", Path("workflows/echo.yml").read_text()) as (address, key):
        _compare(address, key)


@contextmanager
def serving(app: str, document: str) -> Iterator[tuple[tuple[str, int], str]]:
    """A server with one app; its address, and a key for the app."""
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(data_dir=folder)
        with open_store(settings) as store:
            store.commit_blocking(lambda tx: publish(tx, app, Edition.of(document)))
            key = store.commit_blocking(lambda tx: create_key(tx, app, "bench"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = free.getsockname()
        env = os.environ | {"ATELIER_DATA_DIR": folder}
        server = subprocess.Popen([sys.executable, "-m", "bench.bare", str(address[1])], env=env)
        try:
            _until_it_listens(address)
            yield address, key
        finally:
            server.terminate()
            server.wait()


def _compare(address: tuple[str, int], key: str) -> None:
    body = json.dumps({"inputs": {"text": "hello"}, "response_mode": "blocking", "user": "bench"}).encode()
    bare, run = Post(address, "/bare", key, body), Post(address, "/v1/workflows/run", key, body)
    measure(run, 1, 1.0)
    measure(bare, 1, 1.0)
    print("\nstart → template → end over HTTP (SQLite) against a bare route with one committed insert")
    print(f"{'callers':>8} {'bare ms':>9} {'run ms':>9} {'bare/s':>9} {'runs/s':>9} {'time ratio':>11} {'Dify':>8}")
    for callers in (1, 32):
        # Alternating rounds: whatever else the machine does, it does to both.
        pairs = [(measure(bare, callers, ROUND_S), measure(run, callers, ROUND_S)) for _ in range(ROUNDS)]
        ratio = statistics.median(r.median_ms / b.median_ms for b, r in pairs)
        b, r = pairs[len(pairs) // 2]
        line = f"{callers:>8} {b.median_ms:>9.2f} {r.median_ms:>9.2f} {b.rate:>9.0f} {r.rate:>9.0f} {ratio:>10.2f}x"
        print(f"{line} {r.rate / DIFY_RUNS_S:>7.0f}x")


def _until_it_listens(address: tuple[str, int]) -> None:
    for _ in range(200):
        try:
            socket.create_connection(address).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("the server does not listen")


if __name__ == "__main__":
    main()
