"""The worker's side of the sandbox: a call goes in, what the code answered comes out, or an error that says why not."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from app.errors import NodeFailed
from workers.code_sandbox.zygote import LENGTH, NOT_WALLED

logger = logging.getLogger(__name__)

_ROOT = Path(__file__).resolve().parents[2]
_PYTHON = (sys.executable, "-I", "-S", "-X", "utf8", "-c")
_BEGIN = """
import sys
sys.path.insert(0, sys.argv[1])
from workers.code_sandbox.zygote import main
main(int(sys.argv[2]), sys.argv[3])
"""
_PATIENCE_S = 60.0  # for the zygote to begin, on a machine under load
_BEAT_S = 0.1
_CHUNK = 1 << 18


class Limits(NamedTuple):
    """What a call may take. `memory_mb` is address space, of which the interpreter has about 60."""

    timeout_s: float = 15.0
    memory_mb: int = 512
    answer_mb: int = 4


class CodeFailed(NodeFailed):
    """Code of a workflow went wrong, took too much, or can't run here."""

    default_type = "CodeExecutionError"


class SandboxDied(CodeFailed):
    """The call's child is gone and nobody could say how: the sandbox has died, or has no room for a child."""


class Halted(Exception):
    """Who asked for the call wants it no more."""


class Sandbox:
    """Runs code, each call in a child of its own. Threads may share it. It begins with its first call."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._lock = threading.Lock()
        self._zygote: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self.walls: tuple[str, ...] = ()

    def run(
        self, language: str, code: str, inputs: Mapping[str, Any], is_halted: Callable[[], bool] = lambda: False
    ) -> Any:
        """What `main` answered over the inputs. Raises CodeFailed, or Halted soon after `is_halted` says so."""
        call = {
            "language": language,
            "code": code,
            "inputs": json.dumps(inputs, ensure_ascii=False),
            "cpu_s": int(self._limits.timeout_s) + 1,
            "memory_bytes": self._limits.memory_mb << 20,
        }
        content = json.dumps(call).encode()
        try:
            return self._call(content, is_halted)
        except SandboxDied:  # code changes nothing outside, so it may run twice
            return self._call(content, is_halted)

    def close(self) -> None:
        """Ends the zygote and whatever runs in it."""
        with self._lock:
            self._end()

    def _call(self, content: bytes, is_halted: Callable[[], bool]) -> Any:
        caller, answer = self._begin_call()
        try:
            return Conversation(caller, answer, self._limits, is_halted).hold(content)
        finally:
            caller.close()  # what still runs is ended by that
            os.close(answer)

    def _begin_call(self) -> tuple[socket.socket, int]:
        """The socket and the pipe of a child that waits for its call."""
        caller, theirs = socket.socketpair()
        answer, written = os.pipe()
        try:
            with self._lock:
                self._send((theirs.fileno(), written))
        except BaseException:
            caller.close()
            os.close(answer)
            raise
        finally:
            theirs.close()
            os.close(written)
        return caller, answer

    def _send(self, descriptors: tuple[int, int]) -> None:
        """Hands the descriptors to the zygote; to a new one where there is none, or it has died."""
        if self._control is not None:
            try:
                socket.send_fds(self._control, [b"call"], descriptors)
                return
            except OSError:
                logger.warning("the code sandbox has died", extra={"action": "sandbox_died"})
                self._end()
        socket.send_fds(self._begin(), [b"call"], descriptors)

    def _begin(self) -> socket.socket:
        engine = importlib.util.find_spec("_quickjs")
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        nowhere = subprocess.DEVNULL
        with theirs:
            self._zygote = subprocess.Popen(
                [*_PYTHON, _BEGIN, _ROOT, str(theirs.fileno()), str(engine and engine.origin)],
                env={},
                stdin=nowhere,
                stdout=nowhere,
                stderr=nowhere,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        control.settimeout(_PATIENCE_S)
        self._control = control
        try:
            said = json.loads(control.recv(1 << 16) or b'{"error": "it ended at once"}')
        except OSError as error:
            said = {"error": str(error)}
        if "error" in said:
            self._end()
            raise CodeFailed(f"Code can't be run safely on this machine, so it is not run: {said['error']}")
        self.walls = tuple(said["walls"])
        logger.info("code sandbox began", extra={"action": "sandbox_began", "walls": ", ".join(self.walls)})
        return control

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._zygote is not None:
            self._zygote.kill()
            self._zygote.wait()
        self._control = self._zygote = None


class Conversation:
    """One call, from its words to its child's end. Nothing that comes from the other side is believed."""

    def __init__(self, caller: socket.socket, answer: int, limits: Limits, is_halted: Callable[[], bool]) -> None:
        self._caller = caller
        self._answer = answer
        self._limits = limits
        self._is_halted = is_halted
        self._ends_at_s = time.monotonic() + limits.timeout_s

    def hold(self, call: bytes) -> Any:
        self._caller.settimeout(self._limits.timeout_s)
        try:
            self._caller.sendall(LENGTH.pack(len(call)) + call)
            said = self._read_answer()
            self._wait_for(self._caller.fileno())
            ended = json.loads(self._caller.recv(1 << 12) or b"null")
        except OSError:  # it hung up
            ended = None
        if ended is None:
            raise SandboxDied("The sandbox of the code has died; what is run next has a new one.")
        if said[:1] == b"!":
            raise CodeFailed(said[1:].decode("utf-8", "replace"))
        if said[:1] != b"=" or ended["code"] != 0:
            raise CodeFailed(self._reason(ended["code"], ended["cpu_s"]))
        return _value(said[1:])

    def _read_answer(self) -> bytes:
        said = bytearray()
        while True:
            self._wait_for(self._answer)
            part = os.read(self._answer, _CHUNK)
            if not part:
                return bytes(said)
            said += part
            if len(said) > self._limits.answer_mb << 20:
                raise CodeFailed(f"The code's answer is larger than {self._limits.answer_mb} MiB.")

    def _wait_for(self, descriptor: int) -> None:
        """Until something can be read there; no longer than the call may take."""
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while not poll.poll(_BEAT_S * 1000):
            if self._is_halted():
                raise Halted
            if time.monotonic() > self._ends_at_s:
                raise CodeFailed(f"The code took longer than {self._limits.timeout_s:g} s.")

    def _reason(self, code: int, cpu_s: float) -> str:
        """Why a child ended that gave no answer."""
        if code == NOT_WALLED:
            return "The kernel refused to wall the code in, so it was not run."
        if code == -signal.SIGKILL and cpu_s >= self._limits.timeout_s:
            return f"The code took longer than {self._limits.timeout_s:g} s."
        if code < 0:
            return f"The code's process was ended by {signal.Signals(-code).name}; it may have used too much memory."
        return "The code ended its process before it gave an answer."


def _value(said: bytes) -> Any:
    try:
        return json.loads(said)
    except (ValueError, RecursionError) as error:
        raise CodeFailed(f"Failed to parse JSON response: {error}.") from None
