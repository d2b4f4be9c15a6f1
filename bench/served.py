"""A server with the bare routes of `bench.teller` for the length of a block, and what it costs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from app.cluster.daemon import free_port
from app.installation import prepare
from app.settings import load_settings

_ENV = {k: v for k, v in os.environ.items() if not k.startswith(("ATELIER_", "DATABASE_URL", "REDIS_URL", "S3_"))}


@dataclass
class Served:
    address: tuple[str, int]
    key: str
    pid: int
    http: httpx.Client

    def memory_bytes(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu_s(self) -> float:
        """Seconds that the process has computed so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def reads(self) -> float:
        """Queries of the store so far."""
        lines = self.http.get("/metrics").text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("atelier_reads_total "))

    def begin(self) -> str:
        """A run that waits for a worker: its id."""
        body = {"inputs": {"prompt": "a red circle"}, "response_mode": "streaming", "user": "bench"}
        with self.http.stream("POST", "/v1/workflows/run", json=body) as stream:
            return stream.headers["x-workflow-run-id"]


@contextmanager
def served() -> Iterator[Served]:
    with tempfile.TemporaryDirectory() as folder:
        key = prepare(load_settings(data_dir=folder))
        port = free_port()
        env = _ENV | {"ATELIER_DATA_DIR": folder, "ATELIER_QUEUE_TIMEOUT_S": "600"}
        process = subprocess.Popen([sys.executable, "-m", "bench.teller", str(port)], env=env)
        headers = {"Authorization": f"Bearer {key}"}
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as http:
                _until_it_answers(http)
                yield Served(("127.0.0.1", port), key, process.pid, http)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


def _until_it_answers(http: httpx.Client) -> None:
    for _ in range(200):
        try:
            if http.get("/livez").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise RuntimeError("the server does not answer")
