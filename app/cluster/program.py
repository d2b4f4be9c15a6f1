"""Atelier's own processes as the cluster starts them: the same commands that a person would type."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from app.cluster.daemon import Daemon, answers, end_processes, processes
from app.errors import Unavailable

ROOT = Path(__file__).resolve().parents[2]
MARK, PART = "ATELIER_CLUSTER", "ATELIER_CLUSTER_PART"
"""In the environment of each process of a cluster: its folder and the process's name. Children inherit them."""


class Program(Daemon):
    """`atelier serve` or `atelier worker`, on the code that runs here, in the current folder."""

    def __init__(
        self, name: str, cluster: Path, words: list[str], environment: Mapping[str, str], port: int | None = None
    ) -> None:
        """`port`: where it answers `/livez`; None for one that listens nowhere."""
        super().__init__(name, cluster, cluster / "logs" / f"{name}.log")
        self.port = port
        self.environment = {**own_environment(cluster, name), **environment}
        self._words = words

    def command(self) -> list[str]:
        return [sys.executable, "-m", "app", *self._words]

    def working_folder(self) -> Path:
        return Path.cwd()  # `.env` and `checkpoints/` lie here

    def ready(self) -> bool:
        if self.port is None:
            return self.pid is not None
        return answers(self.port, b"GET /livez HTTP/1.0\r\n\r\n", lambda reply: b" 200 " in reply)

    def pids(self) -> list[int]:
        """It and its children, which are in groups of their own."""
        return marked(self.folder, self.name)


def marked(cluster: Path, name: str | None = None) -> list[int]:
    """The Atelier processes of the cluster in this folder; of one name, or all."""
    marks = {f"{MARK}={cluster.absolute()}".encode()} | ({f"{PART}={name}".encode()} if name else set())
    return processes(lambda proc: marks <= set((proc / "environ").read_bytes().split(b"\0")))


def end_all(cluster: Path) -> None:
    """SIGKILL for every Atelier process of this cluster, whoever started it. Raises Unavailable."""
    end_processes(lambda: marked(cluster))


def run_once(name: str, cluster: Path, words: list[str], environment: Mapping[str, str]) -> str:
    """Runs a command of ours to its end; what it printed. Raises Unavailable with what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "app", *words],
        env={**os.environ, **own_environment(cluster, name), **environment},
        capture_output=True,
        text=True,
    )
    with (cluster / "logs" / f"{name}.log").open("a") as log:
        log.write(done.stderr)
    if done.returncode:
        raise Unavailable(f"`atelier {' '.join(words)}` failed: {done.stderr.strip().removeprefix('atelier: ')}")
    return done.stdout.strip()


def own_environment(cluster: Path, name: str) -> dict[str, str]:
    return {MARK: str(cluster.absolute()), PART: name, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
