"""One at a time, of all threads and processes that share a folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def alone(place: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Inside, nobody else is, by the lock on the file `place`, which is gone afterwards and with a killed process free.

    `wait` is called again and again while somebody is, and raises what it likes instead of waiting. Raises OSError.
    """
    while (lock := _taken(place)) is None:
        wait()
    try:
        yield
    finally:
        place.unlink(missing_ok=True)  # before others can have it: the next one makes a file of its own
        os.close(lock)


def _taken(place: Path) -> int | None:
    """The descriptor of the locked file; None while somebody else has it."""
    while True:
        lock = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), place.stat()):
                return lock
        os.close(lock)  # whoever had it has deleted it meanwhile, and others may lock another file of that name
