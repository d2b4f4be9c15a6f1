"""The parent's side: a child for each document that is more than a text, so that a hostile one ends nothing but it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable

from app import clock
from workers.documents.extract import extract, is_plain
from workers.documents.refusals import Unreadable

CPU_S = 60
WALL_S = 120.0
MEMORY_MB = 1024
_LOOK_S = 0.2


class Halted(Exception):
    """Nobody wants the text any more."""


def read_document(content: bytes, extension: str, mime_type: str, is_halted: Callable[[], bool]) -> str:
    """The document's text. Raises Unreadable with one sentence, Halted once `is_halted` says so."""
    if is_plain(extension, mime_type):
        return extract(content, extension, mime_type)
    words = [extension or ".", mime_type, str(CPU_S), str(MEMORY_MB)]
    with tempfile.TemporaryFile() as given:
        given.write(content)
        given.seek(0)
        child = subprocess.Popen(
            [sys.executable, "-m", "workers.documents", *words],
            env={"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    try:
        told = _told(child, is_halted)
    finally:
        child.kill()
        child.wait()
    if child.returncode:
        raise Unreadable(f"The document can't be read: {_end(child.returncode)}.")
    said: dict[str, str] = json.loads(told)
    if "text" not in said:
        raise Unreadable(said["error"])
    return said["text"]


def _told(child: subprocess.Popen[bytes], is_halted: Callable[[], bool]) -> bytes:
    until_s = clock.monotonic() + WALL_S
    while True:
        try:
            return child.communicate(timeout=_LOOK_S)[0]
        except subprocess.TimeoutExpired:
            if is_halted():
                raise Halted from None
            if clock.monotonic() > until_s:
                raise Unreadable(f"The document can't be read: it took more than {WALL_S:g} s.") from None


def _end(returncode: int) -> str:
    if returncode == -signal.SIGXCPU or returncode == -signal.SIGKILL:
        return f"it took more than {CPU_S} s of computing"
    return f"its reader ended with status {returncode}"
