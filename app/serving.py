"""Starting a server: the port, the lock, then uvicorn."""

from __future__ import annotations

import errno
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import msgspec
import uvicorn

from app.api.connection import Connection
from app.api.doors import Door
from app.client import LENT_KEY_FILE
from app.domain.request import NAMES
from app.errors import SettingsInvalid
from app.logs import set_up_logs
from app.main import create_app
from app.outbound.reach import reach_of
from app.runs.companion import Companion
from app.settings import Settings, variable_name
from app.store.folder_lock import lock_folder

logger = logging.getLogger(__name__)


class _Uvicorn(uvicorn.Server):
    """uvicorn's server, which ends event streams before it waits for open answers: their clients go on elsewhere."""

    def __init__(self, config: uvicorn.Config, end_streams: Callable[[], None]) -> None:
        super().__init__(config)
        self._end_streams = end_streams

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()  # nobody comes back to this process
        self._end_streams()
        await super().shutdown(sockets)


class Server:
    """One API process. Construction takes the port and the lock, so that trouble shows before anything is done."""

    def __init__(self, settings: Settings, companion: Companion | None) -> None:
        reach_of(settings)  # an allow-list that can't be read must not wait for the first who needs it
        self._settings = settings
        self._companion = companion
        self._lock = lock_folder(settings.data_dir) if settings.is_embedded else None
        self._sockets = [_bind(settings.host, settings.port)]
        self.url = _url(self._sockets[0])
        self._doors: dict[int, Door] = {}
        self.urls: dict[str, str] = {}
        """Those of the dialects that have a port of their own."""
        self._taken: list[str] = []  # what is to be said of ports that somebody else has, once there is a log
        self._open_door(Door("ollama"), settings.ollama_port, "ollama_port")
        self._open_door(Door("llamago", "/llamago"), settings.llamago_port, "llamago_port")
        self._uvicorn: uvicorn.Server | None = None
        self._failure = threading.Event()

    def _open_door(self, door: Door, port: int | None, setting: str) -> None:
        """Takes a dialect's own port. A usual one that is taken, as by the real Ollama, is done without."""
        if port is None:
            return
        try:
            listener = _bind(self._settings.host, port, variable_name(setting))
        except SettingsInvalid as error:
            if setting in self._settings.model_fields_set:
                raise
            self._taken.append(f"{error.message} Clients of {NAMES[door.dialect]} find the main port only.")
            return
        self._sockets.append(listener)
        self._doors[listener.getsockname()[1]] = door
        self.urls[door.dialect] = _url(listener)

    def _lent(self) -> dict[int, Door]:
        """The doors with what they lend, which is there once the database has been prepared."""
        if not self._settings.open_to_loopback:
            return self._doors
        token = (self._settings.data_dir / LENT_KEY_FILE).read_text().strip()
        return {port: msgspec.structs.replace(door, lends=token) for port, door in self._doors.items()}

    def run(self) -> None:
        """Serves until a signal comes, then returns. The database must be prepared."""
        _end_on_sigterm()
        with suppress(KeyboardInterrupt):
            self._make().run(sockets=self._sockets)

    @contextmanager
    def beside(self) -> Iterator[Callable[[], None]]:
        """Serves on another thread while the block runs, then here until a signal or the given stop comes."""
        _end_on_sigterm()
        server = self._make()
        thread = threading.Thread(target=self._serve, args=(server,), name="server")
        thread.start()

        def stop() -> None:
            server.should_exit = True

        try:
            yield stop
            thread.join()
        except KeyboardInterrupt:
            pass
        finally:
            stop()
            thread.join()

    def failed(self) -> bool:
        """True when the server on the other thread has ended."""
        return self._failure.is_set()

    def _serve(self, server: uvicorn.Server) -> None:
        try:
            server.run(sockets=self._sockets)
        finally:
            self._failure.set()

    def _make(self) -> uvicorn.Server:
        set_up_logs("server", self._settings.log_level, self._settings.log_format)
        for said in self._taken:
            logger.info(said, extra={"action": "port_taken"})
        app = create_app(self._settings, self._companion, self._lent())
        config = uvicorn.Config(
            app,
            http=Connection,
            log_config=None,  # its lines go where ours go
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=int(self._settings.shutdown_grace_s),
            server_header=False,
        )
        return _Uvicorn(config, app.state.end_streams)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _end_on_sigterm() -> None:
    """Makes SIGTERM end the server as Ctrl-C does: uvicorn raises it again, and an asked-for end is no failure."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def _bind(host: str, port: int, setting: str = "ATELIER_PORT or --port") -> socket.socket:
    """The listening socket. Raises SettingsInvalid with one sentence."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)  # from now on clients wait in line instead of being refused
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            setting = "ATELIER_HOST or --host"
        raise SettingsInvalid(
            f"Port {port} on {host} can't be used: {error.strerror}. Set {setting} to another one."
        ) from None
    listener.set_inheritable(False)
    return listener
