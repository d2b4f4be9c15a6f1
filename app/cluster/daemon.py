"""One long-lived process of ours: started, asked to stop, killed, started again in the same folder."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from app.errors import Unavailable

_LOOK_S = 0.02
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")

# The kernel sends the death signal when the *thread* ends that started the process. So one thread, which lives as long
# as the program, starts them all, and any thread may call `spawn`.
_spawner = ThreadPoolExecutor(1, thread_name_prefix="spawner")


class Daemon(ABC):
    """A process with a name, a folder for all that it writes, and a log. It never outlives the program that started it.

    It is the first of its own process group, so a signal to the group reaches what it started. Not safe to use from
    two threads at once.

    A signal handler may raise at any moment, as Ctrl-C does. `Popen.poll` and `Popen.wait` would then leave a lock
    behind now and then, and the next wait would never end; so the system itself is asked how the process is.
    """

    stop_signal = signal.SIGTERM
    death_signal = "KILL"
    """Sent by the kernel when the program that started it ends, however it ends."""
    account: str | None = None
    """Run as this account instead of ours."""

    def __init__(self, name: str, folder: Path, log: Path | None = None) -> None:
        self.name = name
        self.folder = folder.absolute()
        self.log = (log or folder / "log").absolute()
        self.port: int | None = None
        """Where it listens on 127.0.0.1; the same for every start."""
        self.prefix: list[str] = []
        """Words before the command, such as those of faketime."""
        self.environment: dict[str, str] = {}
        """Added to our own environment."""
        self._process: subprocess.Popen[bytes] | None = None
        self._status: int | None = None
        self._buried = False

    @property
    def pid(self) -> int | None:
        """The process id; None while it does not run."""
        return self._process.pid if self._process is not None and self.exit_status() is None else None

    def exit_status(self) -> int | None:
        """How it ended (negative: by that signal); None while it runs or before the first start."""
        if self._process is not None and self._status is None:
            self._status = _end_of(self._process.pid)
        return self._status

    def start(self, patience_s: float = 30.0) -> None:
        """Starts it, the first time or again, and returns once it answers. Raises Unavailable."""
        self.spawn()
        self.until_ready(patience_s)

    def spawn(self) -> None:
        """Starts it and returns at once. Raises Unavailable when its program is missing or its folder can't be used."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self.prepare()
            self._process = _spawner.submit(self._open).result()
            self._status, self._buried = None, False
        except OSError as error:
            raise Unavailable(f"{self.name} can't be started: {error}.") from error

    def until_ready(self, patience_s: float = 30.0) -> None:
        """Returns once it answers. Raises Unavailable, with the end of its log, when it ends or takes too long."""
        end = time.monotonic() + patience_s
        while not self.ready():
            status = self.exit_status()
            if status is not None:
                raise Unavailable(f"{self.name} ended with status {status}. {self._last_words()}")
            if time.monotonic() > end:
                raise Unavailable(f"{self.name} did not answer within {patience_s:g} s. {self._last_words()}")
            time.sleep(_LOOK_S)

    def ask_to_stop(self) -> None:
        """Sends the signal that makes it end in order; one that is frozen is woken for it."""
        if pid := self.pid:
            os.kill(pid, self.stop_signal)
            os.kill(pid, signal.SIGCONT)

    def stop(self, patience_s: float = 10.0) -> int | None:
        """Ends it in order, and kills it when that takes longer than `patience_s`; its exit status."""
        self.ask_to_stop()
        end = time.monotonic() + patience_s
        while self.pid and time.monotonic() < end:
            time.sleep(_LOOK_S)
        self.kill()  # what it left behind, or itself
        return self.exit_status()

    def kill(self) -> None:
        """SIGKILL for it and for all that it started, by whichever program; returns when none is left.

        Safe to repeat, and also before the first start: then for what a killed program left in the same folder.
        """
        if self._process is not None and not self._buried:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            while self.pid:
                time.sleep(_LOOK_S)
            self._bury(self._process)
        end_processes(self.pids)

    def pids(self) -> list[int]:
        """All of its processes, found by where they stand: servers write over their own environment."""
        program, place = Path(self.command()[0]).name, self.working_folder().resolve()
        return processes(lambda proc: (proc / "cwd").readlink() == place and _name(proc) == program)

    def prepare(self) -> None:
        """Makes what it needs in its folder, before every start."""
        return

    @abstractmethod
    def command(self) -> list[str]:
        """The program and its arguments."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether it answers now."""

    def working_folder(self) -> Path:
        return self.folder

    def _bury(self, process: subprocess.Popen[bytes]) -> None:
        """From now on the number may be another process's."""
        process.returncode = self._status
        with suppress(ChildProcessError):
            os.waitpid(process.pid, 0)
        self._buried = True

    def _open(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*as_account(self.account), "--pdeathsig", self.death_signal, "--", *self.prefix, *self.command()],
                cwd=self.working_folder(),
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def _last_words(self) -> str:
        """The last lines of the log, as one."""
        try:
            lines = self.log.read_text(errors="replace").strip().splitlines()[-3:]
        except OSError:
            lines = []
        return f"Its log ({self.log}) ends: {' / '.join(lines)}" if lines else f"Its log ({self.log}) is empty."


def as_account(account: str | None) -> list[str]:
    """The beginning of a command that runs as that account; the rest of setpriv's options may follow."""
    setpriv = find_program("setpriv", "util-linux")
    return [setpriv, *([f"--reuid={account}", f"--regid={account}", "--init-groups"] if account else [])]


def find_program(name: str, package: str, *folders: Path) -> str:
    """The path of a program, in the given folders or where programs lie. Raises Unavailable with the way out."""
    where = os.pathsep.join([*map(str, folders), os.environ.get("PATH", ""), "/usr/local/sbin:/usr/sbin:/sbin"])
    found = shutil.which(name, path=where)
    if found is None:
        raise Unavailable(f"There is no {name} on this machine. Install it: apt-get install {package}")
    return found


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens now.

    Below those that the kernel gives to outgoing connections: one of them could take the port of a server that is down
    for a moment. Two callers at once may still get the same one; the later server then says so in its log.
    """
    try:
        below = int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError):
        below = 32768
    for _ in range(200):
        port = random.SystemRandom().randrange(min(15000, below - 1000), below)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise Unavailable("There is no free port on 127.0.0.1.")


def answers(port: int, say: bytes, until: Callable[[bytes], bool]) -> bool:
    """Whether the server on this port of 127.0.0.1 answers what was said within a second."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(say)
            return until(connection.recv(4096))
    except OSError:
        return False


def end_processes(pids: Callable[[], list[int]], patience_s: float = 10.0) -> None:
    """SIGKILL again and again until `pids` finds none: some may start others meanwhile. Raises Unavailable."""
    end = time.monotonic() + patience_s
    while found := pids():
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > end:
            raise Unavailable(f"These processes can't be ended: {', '.join(map(str, found))}.")
        time.sleep(_LOOK_S)


def processes(belongs: Callable[[Path], bool]) -> list[int]:
    """The processes, ended ones that nobody has buried left out, whose `/proc/PID` folder satisfies `belongs`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if belongs(folder) and _lives(folder):
                found.append(int(folder.name))
        except OSError:  # it ended while we looked, or belongs to somebody whose processes we may not read
            continue
    return found


def _end_of(pid: int) -> int | None:
    """How a child of ours ended (negative: by that signal), which stays unburied; None while it runs."""
    try:
        found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # buried in a moment that an interrupt took from us
        return -signal.SIGKILL
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def _name(folder: Path) -> str:
    return (folder / "comm").read_text().strip()


def _lives(folder: Path) -> bool:
    return (folder / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
