"""Real clusters for the tests: `atelier cluster` as a process of its own, known by what its state.json says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.servers import ROOT

PATIENCE_S = 60.0


@dataclass
class RunningCluster:
    folder: Path
    supervisor: subprocess.Popen[str]

    def state(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "state.json").read_text()))

    @property
    def url(self) -> str:
        return str(self.state()["url"])

    def http(self) -> httpx.Client:
        state = self.state()
        return httpx.Client(
            base_url=state["url"], timeout=PATIENCE_S, headers={"Authorization": f"Bearer {state['key']}"}
        )

    def pids(self) -> dict[str, int | None]:
        """Name → pid; None for one that is down."""
        return {process["name"]: process["pid"] for process in self.state()["processes"]}

    def kill(self, name: str, with_signal: signal.Signals = signal.SIGKILL) -> int:
        """Sends the signal to the named process; its pid."""
        pid = self.pids()[name]
        assert pid is not None, f"{name} is down"
        os.kill(pid, with_signal)
        return pid

    def until_replaced(self, name: str, old_pid: int) -> int:
        """The pid of the process that was started in place of another."""
        return int(until(f"{name} is started again", lambda: (p := self.pids()[name]) and p != old_pid and p))

    def until_answers(self, path: str = "/livez") -> None:
        until(f"{path} answers", lambda: httpx.get(self.url + path).status_code == 200)

    def until_answers_itself(self, name: str) -> None:
        """The named API process answers, asked without the nginx before it."""
        (port,) = (process["port"] for process in self.state()["processes"] if process["name"] == name)
        until(f"{name} answers", lambda: httpx.get(f"http://127.0.0.1:{port}/livez").status_code == 200)

    def stop(self, patience_s: float = 1.5 * PATIENCE_S) -> int:
        """Ends the cluster in order; its exit status."""
        if self.supervisor.poll() is None:
            self.supervisor.send_signal(signal.SIGTERM)
        return self.supervisor.wait(patience_s)


def until(condition: str, get: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """Calls `get` until it gives something true; refused connections are no answer yet."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        try:
            if found := get():
                return found
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"not within {patience_s:g} s: {condition}")


def start_cluster(folder: Path, *options: str, **settings: str) -> RunningCluster:
    """Starts a cluster; it serves when this returns. `settings`: `lease_s="3"` for ATELIER_LEASE_S."""
    words = [word for name, value in settings.items() for word in ("--setting", f"ATELIER_{name.upper()}={value}")]
    command = [sys.executable, "-m", "app", "cluster", "--folder", str(folder), *options, *words]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "supervisor.log").open("a") as log:
        supervisor = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": "1"}, stdout=log, stderr=log, text=True
        )
    cluster = RunningCluster(folder, supervisor)
    until("the cluster serves", lambda: supervisor.poll() is not None or (folder / "state.json").exists())
    assert supervisor.poll() is None, (folder / "supervisor.log").read_text()
    return cluster


@contextmanager
def running_cluster(folder: Path, *options: str, **settings: str) -> Iterator[RunningCluster]:
    """A cluster for the length of a block."""
    cluster = start_cluster(folder, *options, **settings)
    try:
        yield cluster
    finally:
        cluster.stop()
