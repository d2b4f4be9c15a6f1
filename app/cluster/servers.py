"""PostgreSQL, Redis and nginx as processes of ours: each in a folder, on a free port of 127.0.0.1.

For `atelier cluster` and for the tests. Each starts, stops, is killed and starts again on its port and its folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from app.cluster.daemon import Daemon, answers, as_account, find_program, free_port
from app.cluster.place import place_for
from app.errors import Unavailable

NGINX_TEMPLATE = Path(__file__).with_name("nginx.conf.template")


class PostgreSQL(Daemon):
    """A PostgreSQL server with one database, `atelier`, that its superuser `atelier` opens without a password.

    It runs with fsync on: what it has committed outlives `kill`. PostgreSQL refuses to run as root, so for root it runs
    as `postgres`, to whom its data folder belongs then (see `place_for`).
    """

    stop_signal = signal.SIGINT  # "fast": open connections are ended
    death_signal = "QUIT"  # "immediate": the postmaster takes its backends along
    port: int

    def __init__(self, folder: Path, port: int = 0, log: Path | None = None, settings: Sequence[str] = ()) -> None:
        """`settings` are lines as in postgresql.conf (`max_connections=8`); they win over ours."""
        super().__init__("postgres", folder, log)
        self.port = port or free_port()
        self.settings = [
            "max_connections=100",
            "shared_buffers=128MB",
            "fsync=on",
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "timezone=UTC",
            "log_timezone=UTC",
            *settings,
        ]
        self.account = "postgres" if os.geteuid() == 0 else None

    @cached_property
    def data(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return place_for(self.folder, self.account) / "data"

    @property
    def url(self) -> str:
        return f"postgresql://atelier@127.0.0.1:{self.port}/atelier"

    def command(self) -> list[str]:
        options = [part for setting in self.settings for part in ("-c", setting)]
        return [_postgres_program("postgres"), "-D", str(self.data), "-p", str(self.port), *options]

    def working_folder(self) -> Path:
        return self.data

    def ready(self) -> bool:
        return self._tool("pg_isready", "-q", "-d", "postgres").returncode == 0

    def until_ready(self, patience_s: float = 30.0) -> None:
        super().until_ready(patience_s)
        made = self._tool("createdb", "atelier")
        if made.returncode and b"already exists" not in made.stderr:
            raise Unavailable(f"The database can't be made: {made.stderr.decode(errors='replace').strip()}")

    def prepare(self) -> None:
        """Makes the data folder the first time: under another name, so that a half-made one is never taken for it."""
        if self.data.exists():
            return
        making = self.data.with_name("making")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(0o700)
        if self.account:
            shutil.chown(making, self.account)
        initdb = [_postgres_program("initdb"), "-D", str(making), "--username=atelier", "--auth=trust"]
        done = subprocess.run(
            [*as_account(self.account), *initdb, "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"],
            cwd=making,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise Unavailable(f"PostgreSQL's data folder can't be made: {done.stderr.strip()}")
        making.rename(self.data)

    def kill(self) -> None:
        """SIGKILL for the postmaster and its backends; returns when none is left.

        Backends have sessions of their own and outlive a killed postmaster for a moment, in which they may still commit
        and keep a new one from starting.
        """
        super().kill()

    def _tool(self, name: str, *words: str) -> subprocess.CompletedProcess[bytes]:
        command = [_postgres_program(name), "-h", "127.0.0.1", "-p", str(self.port), "-U", "atelier", *words]
        return subprocess.run(command, capture_output=True)


def _postgres_program(name: str) -> str:
    """The newest installed version's."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    return find_program(name, "postgresql", *reversed(versions))


class Redis(Daemon):
    """A Redis server. Without `persistent` it has forgotten everything when it starts again, by design."""

    port: int

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        log: Path | None = None,
        persistent: bool = False,
        settings: Sequence[str] = (),
    ) -> None:
        """`settings` are words of its command line (`--maxmemory 1mb`); they win over ours."""
        super().__init__("redis", folder, log)
        self.port = port or free_port()
        self.persistent = persistent
        self.settings = list(settings)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        kept = ["--appendonly", "yes"] if self.persistent else ["--appendonly", "no"]
        return [
            find_program("redis-server", "redis-server"),
            *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder), "--daemonize", "no"),
            *("--save", "", *kept, "--maxmemory-policy", "noeviction", *self.settings),
        ]

    def ready(self) -> bool:
        return answers(self.port, b"PING\r\n", lambda reply: reply.startswith(b"+PONG"))


class Nginx(Daemon):
    """nginx in front of API processes: one address, and a dead process behind it is passed over."""

    death_signal = "TERM"  # the master takes its workers along
    port: int

    def __init__(self, folder: Path, upstreams: Sequence[int], port: int = 0, log: Path | None = None) -> None:
        """`upstreams` are ports of 127.0.0.1; whether anybody listens there may change at any time."""
        super().__init__("nginx", folder, log)
        self.port = port or free_port()
        self.upstreams = tuple(upstreams)
        self.ports = {"Ollama": free_port(), "llama.go": free_port()}
        """Those of dialects that have one of their own, by what people call them."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [*self._nginx(), "-g", "daemon off;"]

    def prepare(self) -> None:
        # max_fails=0: a process that refuses connections costs microseconds here, and is asked again with every one,
        # so that it serves as soon as it listens, also when all of them were down.
        servers = " ".join(f"server 127.0.0.1:{port} max_fails=0;" for port in self.upstreams)
        text = render_nginx(
            NGINX_FOLDER=str(self.folder),
            NGINX_LISTEN=f"127.0.0.1:{self.port}",
            NGINX_OLLAMA=f"127.0.0.1:{self.ports['Ollama']}",
            NGINX_LLAMAGO=f"127.0.0.1:{self.ports['llama.go']}",
            NGINX_RESOLVER="",
            NGINX_API=servers,
        )
        (self.folder / "nginx.conf").write_text(text)

    def check(self) -> str:
        """What nginx says of its settings; empty when it has nothing to say against them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.prepare()
        done = subprocess.run([*self._nginx(), "-q", "-t"], capture_output=True, text=True)
        return done.stderr.strip()

    def ready(self) -> bool:
        return answers(self.port, b"GET /nginx-livez HTTP/1.0\r\n\r\n", lambda reply: b" 200 " in reply)

    def _nginx(self) -> list[str]:
        # -e: without it, nginx opens the log of its installation before it has read ours.
        return [find_program("nginx", "nginx-light"), "-p", str(self.folder), "-c", "nginx.conf", "-e", "stderr"]


def render_nginx(**values: str) -> str:
    """nginx's configuration: the template that docker-compose.yml uses too, with the given `${NAME}` filled in."""
    text = NGINX_TEMPLATE.read_text()
    for name, value in values.items():
        text = text.replace(f"${{{name}}}", value)
    return text
