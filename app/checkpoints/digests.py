"""The SHA-256 of checkpoints for those who only show it: reckoned in the background, one file at a time."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

from app.checkpoints.hashes import Hashes

UNKNOWN = "0" * 64
"""Stands for a digest that nobody has reckoned yet."""


class Digests:
    """Tells what is known at once and finds out the rest. Threads may share it.

    Its thread is a daemon: a process that ends does not wait for gigabytes to be read, and the next one begins again.
    """

    def __init__(self, hashes: Hashes) -> None:
        self._hashes = hashes
        self._lock = threading.Lock()
        self._waiting: dict[Path, None] = {}
        self._is_at_work = False

    def of(self, path: str) -> str:
        """64 hex digits of the file or folder; `UNKNOWN` until they have been reckoned."""
        known = self._hashes.find(Path(path))
        if known is None:
            self._reckon(Path(path))
        return known or UNKNOWN

    def _reckon(self, path: Path) -> None:
        with self._lock:
            self._waiting[path] = None
            begins, self._is_at_work = not self._is_at_work, True
        if begins:
            threading.Thread(target=self._work, name="digests", daemon=True).start()

    def _work(self) -> None:
        while path := self._next():
            with suppress(OSError):  # it is gone, or never could be read: then nothing is known of it
                self._hashes.compute(path)

    def _next(self) -> Path | None:
        with self._lock:
            path = next(iter(self._waiting), None)
            if path is None:
                self._is_at_work = False
            else:
                del self._waiting[path]
            return path
