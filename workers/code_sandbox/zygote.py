"""The process that is forked for each call: it has loaded everything, holds no secret, and runs no code itself.

python -I -S -c "…main(DESCRIPTOR, PATH_OF_THE_ENGINE)", with an empty environment. It speaks over the descriptor, a
SEQPACKET socket: first it says which walls stand; then each packet that it gets brings two descriptors, the socket of a
call and the pipe for its answer. Over the socket the caller sends the call, and hears how the child ended; a caller who
closes it wants the child ended. When nobody is left at the other end of the descriptor everything here ends.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.machinery
import importlib.util
import json
import os
import select
import signal
import socket
import struct
import types
from typing import Any, NamedTuple

from workers.code_sandbox import languages, library, walls

LENGTH = struct.Struct("=Q")
_ANSWER = 3  # the one descriptor that code has beside three of /dev/null
_LONGEST_PACKET = 16


class Call(NamedTuple):
    """A child and the socket of who waits for it; `process` becomes readable when the child ends."""

    pid: int
    process: int
    caller: socket.socket


def main(descriptor: int, engine_path: str) -> None:
    """Serves until the other end of the descriptor is closed."""
    control = socket.socket(fileno=descriptor)
    try:
        zygote = _begin(engine_path)
    except Exception as error:
        control.send(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        os._exit(1)
    control.send(json.dumps({"walls": zygote.walls}).encode())
    zygote.serve(control)
    os._exit(0)


class Zygote:
    def __init__(self, engine: types.ModuleType, around: list[str]) -> None:
        self.walls = around
        self._engine = engine
        self._context = engine.Context()
        self._calls: dict[int, Call] = {}
        self._poll = select.poll()

    def serve(self, control: socket.socket) -> None:
        self._poll.register(control, select.POLLIN)
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == control.fileno():
                    if not self._accept(control):
                        return
                elif descriptor in self._calls:
                    self._look(self._calls[descriptor], descriptor)

    def _accept(self, control: socket.socket) -> bool:
        word, descriptors, _, _ = socket.recv_fds(control, _LONGEST_PACKET, 2)
        if not word:
            return False
        caller, answer = descriptors
        mine = os.getpid()
        try:
            pid = os.fork()
        except OSError:  # no room for another process: the caller hears a hang-up
            os.close(caller)
            return True
        finally:
            if os.getpid() == mine:
                os.close(answer)
        if pid == 0:
            self._be_child(mine, caller, answer)
        call = Call(pid, os.pidfd_open(pid), socket.socket(fileno=caller))
        for descriptor, events in ((call.process, select.POLLIN), (caller, 0)):  # no events: a hang-up is told anyway
            self._calls[descriptor] = call
            self._poll.register(descriptor, events)
        return True

    def _look(self, call: Call, descriptor: int) -> None:
        """The child has ended, or its caller has left."""
        if descriptor != call.process:
            signal.pidfd_send_signal(call.process, signal.SIGKILL)
        _, status, usage = os.wait4(call.pid, 0)
        ended = {"code": os.waitstatus_to_exitcode(status), "cpu_s": usage.ru_utime + usage.ru_stime}
        for registered in (call.process, call.caller.fileno()):
            del self._calls[registered]
            self._poll.unregister(registered)
        os.close(call.process)
        with call.caller, contextlib.suppress(OSError):  # the caller has left
            call.caller.send(json.dumps(ended).encode(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def _be_child(self, parent: int, caller: int, answer: int) -> None:
        """Runs one call and ends. Nothing but the answer's pipe is left open to it."""
        try:
            call = _read_call(caller)
            os.dup2(answer, _ANSWER)
            os.closerange(_ANSWER + 1, 1 << 16)
            walls.around_child(parent, call["cpu_s"], call["memory_bytes"])
        except BaseException:
            os._exit(NOT_WALLED)
        try:
            said = b"=" + self._answer(call).encode("utf-8", "replace")
        except languages.CodeError as error:
            said = b"!" + str(error)[: languages.LONGEST_ERROR].encode("utf-8", "replace")
        while said:
            said = said[os.write(_ANSWER, said) :]
        os._exit(0)

    def _answer(self, call: dict[str, Any]) -> str:
        if call["language"] == "javascript":
            return languages.run_javascript(call["code"], call["inputs"], self._context, self._engine.JSException)
        return languages.run_python(call["code"], call["inputs"])


NOT_WALLED = 77
"""How a child ends that could not be walled in: it has run nothing."""


def _begin(engine_path: str) -> Zygote:
    modules = library.load()
    engine = _load_engine(engine_path)
    around = walls.around_zygote()
    _prove_the_wall()
    library.close_the_rest(modules)
    gc.collect()
    gc.freeze()  # so that children share these pages
    return Zygote(engine, around)


def _load_engine(path: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("_quickjs", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"no JavaScript engine at {path}")
    engine = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(engine)
    return engine


def _prove_the_wall() -> None:
    """A child that is walled in must be unable to open a file and a connection; else nothing may run here."""
    mine = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            walls.around_child(mine, 1, 1 << 30)
        except BaseException:
            os._exit(NOT_WALLED)
        os._exit(0 if _is_refused(lambda: os.open("/", os.O_RDONLY)) and _is_refused(socket.socket) else 1)
    os.close(os.pidfd_open(pid))  # Linux 5.3
    _, status = os.waitpid(pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise OSError("the kernel does not let a process give up its system calls (seccomp filters)")


def _is_refused(attempt: Any) -> bool:
    try:
        attempt()
    except PermissionError:
        return True
    return False


def _read_call(caller: int) -> dict[str, Any]:
    with socket.socket(fileno=caller) as connection:
        length = LENGTH.unpack(_read(connection, LENGTH.size))[0]
        call: dict[str, Any] = json.loads(_read(connection, length))
        return call


def _read(connection: socket.socket, length: int) -> bytes:
    content = bytearray()
    while len(content) < length:
        part = connection.recv(min(length - len(content), 1 << 20))
        if not part:
            raise EOFError
        content += part
    return bytes(content)
