"""The hashes of weights that nobody has computed yet, beside the painting: only the finished file needs them."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from app.checkpoints.hashes import Hashes, stamp_of
from workers.diffusion.request import ImageRequest
from workers.run_step import Job, StepHalted

_LOOK_S = 0.5
_NICE = 10


class LateHashes:
    """Of the files of one request, for one step.

    They are begun when the checkpoint has been loaded, which leaves the files in the system's cache: each is read from
    the disk once, and while the device paints.
    """

    def __init__(self, threads: ThreadPoolExecutor, hashes: Hashes, request: ImageRequest, job: Job) -> None:
        self._threads = threads
        self._checkpoint = request.weights.path
        wanted = [] if request.weights.hash else [self._checkpoint]
        wanted += [file.path for file in request.files if not file.hash]
        self._compute = {path: partial(_prefix, hashes, path, stamp_of(path)) for path in wanted}
        self._job = job
        self._computed: dict[str, Future[str]] = {}

    def begin(self) -> None:
        """A second call does nothing; hashes that are known are not computed."""
        if not self._computed:
            self._computed = {path: self._threads.submit(compute) for path, compute in self._compute.items()}

    def complete(self, request: ImageRequest) -> ImageRequest:
        """The request, whose checkpoint may lie elsewhere by now, with all of its hashes; of a file that has gone or
        was replaced since there is none. Shows life while it waits. Raises StepHalted.
        """
        self.begin()
        weights = request.weights
        if not weights.hash:
            weights = replace(weights, hash=self._result(self._checkpoint))
        files = (file if file.hash else replace(file, hash=self._result(file.path)) for file in request.files)
        return replace(request, weights=weights, files=tuple(files))

    def _result(self, path: str) -> str:
        """10 hex digits, or nothing."""
        while path in self._computed:
            with suppress(TimeoutError):
                return self._computed[path].result(_LOOK_S)
            self._job.alive()
            if self._job.is_halted():
                raise StepHalted
        return ""


class Hashing:
    """One file at a time, on a thread that stands back behind the engine's."""

    def __init__(self, hashes: Hashes) -> None:
        self._hashes = hashes
        self._threads = ThreadPoolExecutor(1, "hashing", _stand_back)

    def of(self, request: ImageRequest, job: Job) -> LateHashes:
        """`request` as it was asked for, before its files were converted."""
        return LateHashes(self._threads, self._hashes, request, job)


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
