"""A cluster to be broken, and what must hold afterwards, whatever was done to it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import redis

from tests.clusters import RunningCluster, running_cluster, until
from tests.servers import ROOT, run_command

QUICK = {"prompt": "a red circle", "steps": 5, "seed": 1}
LONG = {"prompt": "a blue star", "steps": 60, "seed": 2}  # 1.2 s
LEASE_S = 3.0
BOUND_S = 25.0  # a lease, a worker's start, and the step itself, on two busy cores
CLUSTER_SETTINGS = {
    "worker_module": "tests.chaos.painter",
    "lease_s": str(LEASE_S),
    "lease_beat_s": "0.5",
    "shutdown_grace_s": "5",
    "max_attempts": "10",
}


@dataclass
class Asked:
    """One request of a client: what it was told, as far as it was told anything."""

    mode: str
    run_id: str | None = None
    status: int | None = None
    answer: dict[str, Any] | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None


@dataclass
class Arena:
    """A running cluster and its clients."""

    cluster: RunningCluster
    extra: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        state = self.cluster.state()
        self.database_url = self.extra.get("DATABASE_URL", state["database_url"])
        self.redis_url = self.extra.get("REDIS_URL", state["redis_url"])
        self.key = state["key"]
        self.direct_url = self.extra.get("DIRECT_URL", self.database_url)  # past whatever lies in between
        self.asked: list[Asked] = []

    # Clients.

    def port_of(self, name: str) -> int:
        return next(int(each["port"]) for each in self.cluster.state()["processes"] if each["name"] == name)

    def app_key(self, document: Path, *options: str) -> str:
        """Publishes a document and makes a key for its app."""
        self.cli("workflows", "publish", str(document), "--app", document.stem)
        return self.cli("keys", "create", "--app", document.stem, *options)

    def cli(self, *words: str) -> str:
        """What the `atelier` command prints in the cluster's environment."""
        env = {"DATABASE_URL": self.direct_url, "ATELIER_DATA_DIR": str(self.cluster.folder / "data")}
        done = run_command(env, *words)
        assert done.status == 0, done.stderr
        return done.stdout.strip()

    def ask(
        self,
        inputs: dict[str, Any],
        mode: str = "blocking",
        *,
        api: str | None = None,
        key: str | None = None,
        leave_after_s: float | None = None,
    ) -> Asked:
        """Posts a run and stays to its end, or until the connection breaks: then it is found in the database.

        `leave_after_s`: the client hangs up then.
        """
        asked = Asked(mode)
        self.asked.append(asked)
        url = f"http://127.0.0.1:{self.port_of(api)}" if api else self.cluster.url
        body = {"inputs": inputs, "response_mode": mode, "user": "chaos"}
        headers = {"Authorization": f"Bearer {key or self.key}"}
        try:
            with (
                httpx.Client(
                    base_url=url, timeout=httpx.Timeout(leave_after_s or 60, connect=5), headers=headers
                ) as http,
                http.stream("POST", "/v1/workflows/run", json=body) as response,
            ):
                asked.status = response.status_code
                asked.run_id = response.headers.get("x-workflow-run-id")
                if mode == "streaming" and response.status_code == 200:
                    for line in response.iter_lines():
                        if line.startswith("data: "):
                            asked.events.append(json.loads(line.removeprefix("data: ")))
                        elif line.startswith("retry: ") and asked.events:
                            asked.error = "told to come back"
                else:
                    asked.answer = json.loads(response.read())
        except (httpx.TransportError, json.JSONDecodeError) as error:
            asked.error = repr(error)
        return asked

    @contextmanager
    def asking(
        self, inputs: dict[str, Any], mode: str = "streaming", *, api: str | None = None, key: str | None = None
    ) -> Iterator[Asked]:
        """The same beside the block, which begins when the step is being painted."""
        before = self.running_steps()
        thread = threading.Thread(target=self.ask, args=(inputs, mode), kwargs={"api": api, "key": key}, daemon=True)
        count = len(self.asked)
        thread.start()
        until("the step is being painted", lambda: self.running_steps() - before)
        yield self.asked[count]
        thread.join(BOUND_S + 30)
        assert not thread.is_alive(), "the client still waits"

    # The database, as nobody of ours sees it.

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.direct_url, autocommit=True, connect_timeout=3) as db:
            return db.execute(statement, values).fetchall()  # type: ignore[arg-type]

    def running_steps(self) -> set[str]:
        return {row[0] for row in self.rows("SELECT id FROM steps WHERE status = 'running'")}

    def holder_of(self, step_id: str) -> str:
        """The name of the worker that holds the step: its log says which ids it had."""
        ((worker_id,),) = self.rows("SELECT worker_id FROM steps WHERE id = %s", step_id)
        for log in (self.cluster.folder / "logs").glob("worker-*.log"):
            if worker_id in log.read_text(errors="replace"):
                return log.stem
        raise AssertionError(f"no worker's log speaks of {worker_id}")

    def log_of(self, step_id: str) -> str:
        """What the workers have logged of a step."""
        logs = (self.cluster.folder / "logs").glob("worker-*.log")
        return "\n".join(
            line for log in logs for line in log.read_text(errors="replace").splitlines() if step_id in line
        )

    def given_back(self, run_id: str) -> list[str]:
        """Why steps of a run were given back by a server, as its log says."""
        logs = (self.cluster.folder / "logs").glob("api-*.log")
        lines = [line for log in logs for line in log.read_text(errors="replace").splitlines() if run_id in line]
        return [found[1] for line in lines if (found := re.search(r"step given back action=(\w+)", line))]

    def painting_worker(self) -> str:
        (step_id,) = self.running_steps()
        return self.holder_of(step_id)

    def child_of(self, name: str) -> int:
        """The pid of a worker's process for pictures."""
        parent = self.cluster.pids()[name]

        def find() -> int | None:
            for status in Path("/proc").glob("[0-9]*/status"):
                with suppress(OSError):
                    is_child = f"PPid:\t{parent}\n" in status.read_text()
                    if is_child and b"gpu" in status.with_name("cmdline").read_bytes().split(b"\0"):
                        return int(status.parent.name)
            return None

        return int(until(f"{name} has a child", find))

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.redis_url)

    # Faults.

    def crash_next(self, point: str) -> None:
        (self.cluster.folder / "data" / f"crash-{point}").touch()

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """SIGSTOP for the length of the block."""
        pid = self.cluster.kill(name, signal.SIGSTOP)
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def nodes(self, run_id: str | None) -> list[str]:
        """The nodes of the run that have needed a worker so far."""
        return [row[0] for row in self.rows("SELECT node_id FROM steps WHERE run_id = %s", run_id)]

    @contextmanager
    def worker_of_another_time(self, offset: str) -> Iterator[None]:
        """One more worker, whose machine's clock is wrong by so much (`+1h`)."""
        pid = self.cluster.pids()["worker-1"]
        env = dict(pair.split("=", 1) for pair in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in pair)
        command = ["faketime", "-f", offset, sys.executable, "-m", "app", "worker", "--class", "gpu"]
        log = (self.cluster.folder / "logs" / "worker-late.log").open("a")
        with log, subprocess.Popen(command, env=env, cwd=ROOT, stderr=log, process_group=0) as worker:
            try:
                yield
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(worker.pid, signal.SIGTERM)

    def until_workers_are_up(self) -> None:
        """Every worker and every API process has a sign of life in the database, and one of them leads."""
        wanted = sum(name.startswith(("worker", "api")) for name in self.cluster.pids())
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        until("the workers are up", lambda: self.rows(held)[0][0] >= wanted + 1)

    # What must hold.

    def check(self, bound_s: float = BOUND_S) -> None:
        """Waits until nothing moves any more, then looks at every run that there is."""
        open_runs = "SELECT count(*) FROM runs WHERE status = 'running'"
        until("every run has ended", quiet(lambda: self.rows(open_runs)[0][0] == 0), bound_s)
        assert self.rows("SELECT run_id, node_id, status FROM steps WHERE status IN ('ready', 'running')") == []
        ends = {row[0]: row[1] for row in self.rows("SELECT id, status FROM runs")}
        for run_id in ends:
            self.check_log(run_id)
        for asked in self.asked:
            self.check_answer(asked, ends)
        until("the address answers", quiet(lambda: httpx.get(f"{self.cluster.url}/livez").status_code == 200))
        self.check_files()

    def check_log(self, run_id: str) -> None:
        """One end, no gap, and no step that ended twice."""
        ((last_seq, first, first_last),) = self.rows(
            "SELECT last_seq, first_entries, first_last_seq FROM runs WHERE id = %s", run_id
        )
        entries, seq = json.loads(first), first_last
        assert len(entries) == first_last, run_id
        later = "SELECT first_seq, last_seq, entries FROM events WHERE run_id = %s ORDER BY first_seq"
        for begin, end, more in self.rows(later, run_id):
            assert begin == seq + 1, f"run {run_id}: a gap after {seq}"
            entries += json.loads(more)
            seq = end
        assert seq == last_seq == len(entries), run_id
        kinds = [entry[0] for entry in entries]
        assert kinds.count("run_finished") == 1, f"run {run_id}: {kinds}"
        assert kinds[-1] == "run_finished", f"run {run_id}: {kinds}"
        ended = [entry[1][2] for entry in entries if entry[0] == "step_finished"]
        assert len(ended) == len(set(ended)), f"run {run_id}: a step ended twice: {ended}"

    def check_answer(self, asked: Asked, ends: dict[str, str]) -> None:
        """What a client was told is what the database says."""
        assert asked.status in (None, 200, 503), f"{asked}"
        if asked.status == 200 and asked.run_id is not None:
            assert asked.run_id in ends, f"an accepted run is lost: {asked}"
        if asked.status == 200 and asked.answer is not None:
            assert asked.answer["data"]["status"] == ends[asked.answer["workflow_run_id"]]
        names = [event["event"] for event in asked.events]
        assert names.count("workflow_finished") <= 1
        if asked.error is None and names:
            assert names[-1] == "workflow_finished", names

    def check_files(self) -> None:
        """Every file of every run that succeeded can be fetched, with the bytes whose digest is recorded."""
        digests = dict(self.rows("SELECT id, sha256 FROM artifacts"))
        with self.cluster.http() as http:
            for (run_id,) in self.rows("SELECT id FROM runs WHERE status = 'succeeded'"):
                run = http.get(f"/v1/workflows/run/{run_id}").json()
                if "outputs" not in run:  # another app's: its key is not ours
                    continue
                for file in run["outputs"].get("files", ()):
                    content = http.get(file["url"]).content
                    assert hashlib.sha256(content).hexdigest() == digests[file["related_id"]]


def quiet(get: Callable[[], Any]) -> Callable[[], Any]:
    """A question that may fail while a server is away."""

    def ask() -> Any:
        try:
            return get()
        except (psycopg.Error, httpx.TransportError):
            return None

    return ask


@contextmanager
def arena(folder: Path, *options: str, more: dict[str, str] | None = None, **settings: str) -> Iterator[Arena]:
    """A cluster with painters for engines. `more`: variables that are not ATELIER_'s, by their whole name."""
    more = dict(more or {})
    if mutant := os.environ.get("CHAOS_MUTANT"):  # see tests/chaos/mutants
        more["PYTHONPATH"] = f"{ROOT}/tests/chaos/mutants/{mutant}:{ROOT}"
    words = [word for name, value in more.items() for word in ("--setting", f"{name}={value}")]
    with running_cluster(folder, *options, *words, **{**CLUSTER_SETTINGS, **settings}) as cluster:
        ready = Arena(cluster, more)
        ready.until_workers_are_up()
        yield ready
