"""The hash of a checkpoint that nobody has computed yet, beside the painting: only the finished file needs it."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from app.checkpoints.hashes import Hashes, stamp_of
from workers.diffusion.request import Weights
from workers.run_step import Job, StepHalted

_LOOK_S = 0.5
_NICE = 10


class LateHash:
    """Of one checkpoint, for one step.

    It is begun when the checkpoint has been loaded, which leaves the file in the system's cache: it is read from the
    disk once, and while the device paints.
    """

    def __init__(self, threads: ThreadPoolExecutor, hashes: Hashes, weights: Weights, job: Job) -> None:
        self._threads = threads
        self._compute = partial(_prefix, hashes, weights.path, stamp_of(weights.path))
        self._job = job
        self._wanted = not weights.hash
        self._computed: Future[str] | None = None

    def begin(self) -> None:
        """A second call does nothing, nor does one for a hash that is known."""
        if self._wanted and self._computed is None:
            self._computed = self._threads.submit(self._compute)

    def result(self) -> str:
        """10 hex digits; nothing where the file has gone or was replaced since. Shows life while it waits. Raises
        StepHalted.
        """
        self.begin()
        while self._computed is not None:
            with suppress(TimeoutError):
                return self._computed.result(_LOOK_S)
            self._job.alive()
            if self._job.is_halted():
                raise StepHalted
        return ""


class Hashing:
    """One file at a time, on a thread that stands back behind the engine's."""

    def __init__(self, hashes: Hashes) -> None:
        self._hashes = hashes
        self._threads = ThreadPoolExecutor(1, "hashing", _stand_back)

    def of(self, weights: Weights, job: Job) -> LateHash:
        """`weights` as they were asked for, before their file was converted."""
        return LateHash(self._threads, self._hashes, weights, job)


def _prefix(hashes: Hashes, path: str, stamp: str) -> str:
    """Of the content that the file had with this stamp."""
    try:
        computed = hashes.compute(Path(path))[:10]
    except OSError:
        return ""
    return computed if stamp_of(path) == stamp else ""


def _stand_back() -> None:
    if sys.platform == "linux":  # elsewhere that would slow down the whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
