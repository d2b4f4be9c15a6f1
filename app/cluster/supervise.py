"""`atelier cluster`: the production form on one machine. Starts all of it, starts again what dies, stops all of it."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from app.client import KEY_FILE
from app.cluster.daemon import Daemon, free_port
from app.cluster.program import Program, end_all, run_once
from app.cluster.servers import Nginx, PostgreSQL, Redis
from app.errors import SettingsInvalid, Unavailable

STATE_FILE = "state.json"

_MAKE_KEY = ["keys", "create", "--name", "cluster"]
_BEAT_S = 0.05
_WELL_S = 10.0  # a process that lived so long gets its next start at once
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 5.0
_STOP_S = 15.0  # for each of the three stages of stopping


@dataclass(frozen=True)
class Plan:
    """What a cluster consists of. `port` 0 takes a free one; `settings` are variables for API processes and workers."""

    folder: Path
    port: int = 0
    api: int = 2
    workers: int = 2
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Watched:
    """A process that is started again when it dies: at once, then after growing pauses."""

    daemon: Daemon
    started_s: float = 0.0
    pause_s: float = 0.0
    due_s: float | None = None
    """When it is started again; None while it runs."""

    def start(self) -> None:
        self.started_s, self.due_s = time.monotonic(), None
        self.daemon.spawn()

    def died(self) -> None:
        now_s = time.monotonic()
        if now_s - self.started_s > _WELL_S:
            self.pause_s = 0.0
        self.due_s = now_s + self.pause_s
        self.pause_s = min(2 * self.pause_s or _FIRST_PAUSE_S, _LONGEST_PAUSE_S)


class Cluster:
    """PostgreSQL, Redis, API processes, workers and nginx of one folder, for as long as `run` runs.

    `<folder>/state.json` says at every moment where it is and which process has which pid:

        {"url", "key", "database_url", "redis_url", "processes": [{"name", "pid", "port"}]}

    `pid` is null while a process is down, `port` (of 127.0.0.1) for one that listens nowhere. The file is never half
    written, and gone when the cluster is.
    """

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self._say = say
        self.folder = plan.folder.absolute()
        logs = self.folder / "logs"
        self.postgres = PostgreSQL(self.folder / "postgres", log=logs / "postgres.log")
        self.redis = Redis(self.folder / "redis", log=logs / "redis.log")
        self._environment: dict[str, str] = {
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.redis.url,
            "ATELIER_DATA_DIR": str(self.folder / "data"),
            "ATELIER_HOST": "127.0.0.1",
            "ATELIER_OLLAMA_PORT": "none",  # several servers can't have one port
            "ATELIER_LLAMAGO_PORT": "none",
            # Engines without a GPU share the processors; each with a thread for all of them, they would only wait.
            "ATELIER_TORCH_THREADS": str(max(1, (os.cpu_count() or 1) // max(1, plan.workers))),
            **plan.settings,
        }
        self._apis = [self._api(f"api-{number}", free_port()) for number in range(1, plan.api + 1)]
        self._workers = [self._worker(f"worker-{number}") for number in range(1, plan.workers + 1)]
        ports = [api.port for api in self._apis if api.port]
        self.nginx = Nginx(self.folder / "nginx", ports, plan.port, logs / "nginx.log")
        daemons = (self.postgres, self.redis, *self._apis, *self._workers, self.nginx)
        self._watched = [Watched(daemon) for daemon in daemons]
        self.key = ""

    @property
    def url(self) -> str:
        return self.nginx.url

    def processes(self) -> list[tuple[str, int | None]]:
        """Name and pid of each, in the order in which they start."""
        return [(watched.daemon.name, watched.daemon.pid) for watched in self._watched]

    def run(self, ready: Callable[[], None]) -> None:
        """Starts everything, calls `ready` once it serves, and keeps it so until SIGTERM, SIGHUP or Ctrl-C.

        Raises SettingsInvalid when another cluster has the folder, Unavailable when something can't be started; nothing
        is left running in either case.
        """
        for asked in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(asked, signal.default_int_handler)
        with _locked(self.folder):
            try:
                self._start()
                ready()
                self._watch()
            except KeyboardInterrupt:
                self._say("Stopping.")
            finally:
                self._stop()

    def _api(self, name: str, port: int) -> Program:
        own = {**self._environment, "ATELIER_WORKER": "none", "ATELIER_PORT": str(port)}
        return Program(name, self.folder, ["serve"], own, port)

    def _worker(self, name: str) -> Program:
        # Each takes both classes of work, so that one of them suffices when the other is down.
        return Program(name, self.folder, ["worker", "--class", "gpu", "--class", "cpu"], self._environment)

    def _start(self) -> None:
        self._end_leftovers()
        secret = {"ATELIER_SECRET_KEY": _kept(self.folder / "secret", lambda: secrets.token_hex(32))}
        for daemon in (*self._apis, *self._workers):
            daemon.environment = {**secret, **daemon.environment}
        for server in (self.postgres, self.redis):
            self._watched_of(server).start()
            server.until_ready()
        environment = {**secret, **self._environment}
        run_once("migrate", self.folder, ["db", "upgrade"], environment)
        # Where `serve` looks for its first key: the API processes find it, and make none of their own.
        self.key = _kept(self.folder / "data" / KEY_FILE, lambda: run_once("key", self.folder, _MAKE_KEY, environment))
        for daemon in (*self._apis, *self._workers):
            self._watched_of(daemon).start()
        for api in self._apis:
            api.until_ready(60)
        self._watched_of(self.nginx).start()
        self.nginx.until_ready()
        self._write_state()

    def _watch(self) -> None:
        while True:
            for watched in self._watched:
                self._look_after(watched)
            time.sleep(_BEAT_S)

    def _look_after(self, watched: Watched) -> None:
        daemon = watched.daemon
        if watched.due_s is None:
            status = daemon.exit_status()
            if status is None:
                return
            watched.died()
            daemon.kill()  # what it left: its children, PostgreSQL's backends
            self._say(f"{daemon.name} ended ({_how(status)}); its log: {daemon.log}")
            self._write_state()
        if watched.due_s is not None and time.monotonic() >= watched.due_s:
            try:
                watched.start()
                self._say(f"{daemon.name} started again: {daemon.pid}")
            except Unavailable as error:
                watched.died()
                self._say(error.message)
            self._write_state()

    def _stop(self) -> None:
        """First who takes requests in, then who works on them, then who keeps them. A second Ctrl-C kills."""
        stages: list[list[Daemon]] = [[self.nginx], [*self._apis, *self._workers], [self.redis, self.postgres]]
        try:
            for stage in stages:
                self._stop_all([daemon for daemon in stage if daemon.pid])
        except KeyboardInterrupt:
            self._say("Killing what is left.")
        finally:
            self._end_leftovers()
            (self.folder / STATE_FILE).unlink(missing_ok=True)

    def _stop_all(self, daemons: list[Daemon]) -> None:
        until_s = time.monotonic() + _STOP_S
        for daemon in daemons:
            daemon.ask_to_stop()
        for daemon in daemons:
            if daemon.stop(max(0.0, until_s - time.monotonic())) == -signal.SIGKILL:
                self._say(f"{daemon.name} did not end within {_STOP_S:g} s and was killed; its log: {daemon.log}")

    def _end_leftovers(self) -> None:
        """Ends what still runs of this cluster, also what a killed supervisor of the same folder left."""
        end_all(self.folder)
        for server in (self.nginx, self.redis, self.postgres):
            server.kill()

    def _watched_of(self, daemon: Daemon) -> Watched:
        return next(watched for watched in self._watched if watched.daemon is daemon)

    def _write_state(self) -> None:
        state = {
            "url": self.url,
            "key": self.key,
            "database_url": self.postgres.url,
            "redis_url": self.redis.url,
            "processes": [
                {"name": watched.daemon.name, "pid": watched.daemon.pid, "port": watched.daemon.port}
                for watched in self._watched
            ],
        }
        new = self.folder / f".{STATE_FILE}"
        new.touch(0o600)
        new.write_text(json.dumps(state, indent=1) + "\n")
        new.replace(self.folder / STATE_FILE)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the folder for this process alone. Raises SettingsInvalid when another has it, Unavailable."""
    try:
        for needed in (folder / "logs", folder / "data"):
            needed.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Unavailable(f"The folder {folder} can't be used: {error.strerror}.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise SettingsInvalid(f"A cluster runs in {folder} already: stop it, or use --folder.") from None
    try:
        yield
    finally:
        os.close(descriptor)


def _kept(file: Path, make: Callable[[], str]) -> str:
    """What the file holds; made and kept for this account alone if there is none."""
    with suppress(FileNotFoundError):
        if text := file.read_text().strip():
            return text
    text = make()
    file.touch(0o600)
    file.write_text(text + "\n")
    return text


def _how(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"
