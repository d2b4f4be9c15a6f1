"""A worker whose engine paints nothing and notes when: `python -m bench.stamps` as ATELIER_WORKER_MODULE.

The times are the machine's monotonic clock, which its processes share.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import workers.main
from app.settings import Settings
from workers.diffusion.request import Image, ImageRequest, Painted, Progress, StopRequested, Weights

# One pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc0000003010100c9fe92ef"
    "0000000049454e44ae426082"
)


class Stamping:
    resident = ("stamping",)

    def __init__(self, file: Path) -> None:
        self._file = file

    def warm(self, weights: Weights) -> float:
        """There is nothing to load."""
        return 0.0

    def paint(
        self, request: ImageRequest, on_progress: Callable[[Progress], None], should_stop: Callable[[], bool]
    ) -> Painted:
        began = time.monotonic()
        # One step is over at once; more take ten milliseconds each.
        for step in range(request.steps if request.steps > 1 else 0):
            time.sleep(0.01)
            if should_stop():
                raise StopRequested
            on_progress(Progress(step + 1, request.steps, 0.0))
        with self._file.open("a") as file:
            file.write(f"{began} {time.monotonic()}\n")
        return Painted((Image(PNG, request.seed, 1, 1),))


if __name__ == "__main__":
    stamps = Path(Settings().data_dir) / "stamps"
    workers.main._engine = lambda settings, catalogue: Stamping(stamps)  # type: ignore[assignment, return-value]
    workers.main.main(int(sys.argv[1]), *sys.argv[2:])
