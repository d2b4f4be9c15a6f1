"""A worker whose engine paints without torch: STEP_S a step, then a small picture that the request alone decides.

The prompt `stall` makes no progress until it is told to stop, the prompt `hang` not even then. The prompt `hold NAME`
tells its first step, and is painted when there is a file `release-NAME` in the data folder; `live NAME` does the same
and goes on giving signs of life; `too large` runs out of memory, `poison` kills the worker, and `noise` gives a picture
of 400 kB. ATELIER_PAINTER_STEP_S makes steps longer.

Everything around the engine is the real worker. While a file `crash-POINT` lies in the data folder, the next worker
that comes to that point takes the file away and kills itself with SIGKILL: `before_commit` (the artifact is stored, its
row is not) or `after_commit` (the row is, and nobody has been told).
"""

from __future__ import annotations

import os
import random
import signal
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import workers.main
from app.errors import OutOfMemory
from app.settings import Settings
from workers.diffusion.request import (
    EnlargeRequest,
    Image,
    ImageRequest,
    Painted,
    Progress,
    Resident,
    StopRequested,
    Weights,
)
from workers.run_step import StepRunner

JPEG = b"\xff\xd8\xff"
ROOM = int(os.environ.get("ATELIER_PAINTER_ROOM", "1"))
STEP_S = float(os.environ.get("ATELIER_PAINTER_STEP_S", "0.02"))


class Painter:
    """Paints ATELIER_PAINTER_ROOM requests side by side (1). What it was asked for stays in its memory, unless it is
    dismissed or not to be kept alive.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._busy: list[str] = []  # the checkpoint of each request that is being painted
        self._leaving: set[str] = set()
        self._lock = threading.Lock()
        self.residents: tuple[Resident, ...] = ()
        self._bring("atelier-shapes")

    @property
    def has_room(self) -> bool:
        return len(self._busy) < ROOM

    def warm(self, weights: Weights) -> float:
        return 0.0

    def dismiss(self, name: str) -> None:
        with self._lock:
            self._leaving.add(name)
            self._let_go()

    def paint(
        self,
        request: ImageRequest,
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
        complete: Callable[[ImageRequest], ImageRequest],
    ) -> Painted:
        name = request.weights.name
        with self._lock:
            self._busy.append(name)
            self._leaving.discard(name)
            if request.keep_alive_s == 0:
                self._leaving.add(name)
            self._bring(name)
        try:
            return self._paint(request, on_progress, should_stop) if request.n else Painted(())
        finally:
            with self._lock:
                self._busy.remove(name)
                self._let_go()

    def _bring(self, name: str) -> None:
        others = tuple(each for each in self.residents if each.name != name)
        mine = Resident(name, 1_000_000, 0, time.monotonic(), None, name in self._leaving)
        self.residents = (*others, mine)

    def _let_go(self) -> None:
        gone = self._leaving - set(self._busy)
        self._leaving -= gone
        kept = (each for each in self.residents if each.name not in gone)
        self.residents = tuple(replace(each, is_leaving=each.name in self._leaving) for each in kept)

    def _paint(
        self, request: ImageRequest, on_progress: Callable[[Progress], None], should_stop: Callable[[], bool]
    ) -> Painted:
        while request.prompt == "stall" and not should_stop():
            time.sleep(STEP_S)
        if request.prompt == "too large":
            raise OutOfMemory("The GPU ran out of memory. Ask for a smaller picture, or for fewer at once (n).")
        if request.prompt == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        while request.prompt == "hang":
            time.sleep(STEP_S)
        waits = request.prompt.startswith(("hold ", "live "))
        if waits:
            on_progress(Progress(1, request.steps, 1.5))
        while waits and not self._released(request.prompt):
            time.sleep(0.02)
            if request.prompt.startswith("live "):
                on_progress(Progress(1, request.steps, 1.5))
            if should_stop():
                raise StopRequested
        for step in range(request.steps):
            time.sleep(STEP_S)
            if should_stop():
                raise StopRequested
            on_progress(Progress(step + 1, request.steps, 0.0, JPEG if request.previews else None))
        return Painted(tuple(picture(request, request.seed + i) for i in range(request.n)))

    def enlarge(self, request: EnlargeRequest, should_stop: Callable[[], bool]) -> Image:
        return Image(request.image, 0, 8, 8)

    def _released(self, prompt: str) -> bool:
        return (self._data_dir / f"release-{prompt.partition(' ')[2]}").exists()


def picture(request: ImageRequest, seed: int) -> Image:
    """A PNG of 8 × 8 pixels."""
    color = zlib.crc32(f"{request.prompt}/{seed}".encode()).to_bytes(4)[:3]
    side = 368 if request.prompt == "noise" else 8
    row = random.Random(seed).randbytes(3 * side) if side > 8 else color * side
    rows = b"".join(b"\0" + row[i:] + row[:i] for i in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 0 if side > 8 else -1)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    return Image(png, seed, side, side)


def crashing(data_dir: Path) -> None:
    record = StepRunner._record

    def recorded(self: StepRunner, *rest: Any) -> None:
        crash_at(data_dir / "crash-before_commit")
        record(self, *rest)
        crash_at(data_dir / "crash-after_commit")

    StepRunner._record = recorded  # type: ignore[method-assign]


def crash_at(point: Path) -> None:
    try:
        point.unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    workers.main._engine = lambda settings, catalogue: Painter(settings.data_dir)  # type: ignore[assignment, return-value]
    crashing(Settings().data_dir)
    workers.main.main(int(sys.argv[1]), *sys.argv[2:])
