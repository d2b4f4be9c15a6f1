"""How long the device is at work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

Note = Callable[[float], None]


class Stopwatch:
    """Measures pieces of work on one device, one after the other."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._ahead: tuple[torch.cuda.Event, torch.cuda.Event, Note] | None = None

    @contextmanager
    def measure(self, note: Note) -> Iterator[None]:
        """Tells `note` how many seconds the device took for what is done inside; where that fails, nothing.

        A GPU is only handed its work here, and goes on with it while the next piece is prepared. So it is told when the
        next piece has been handed over, and that waits for this one: never more than one piece lies ahead of the GPU,
        or a stop would come too late.
        """
        if self._device.type != "cuda":
            began_s = time.monotonic()
            yield
            note(time.monotonic() - began_s)
            return
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        yield
        end.record()
        before, self._ahead = self._ahead, (start, end, note)
        if before is not None:
            _tell(*before)


def _tell(start: torch.cuda.Event, end: torch.cuda.Event, note: Note) -> None:
    end.synchronize()
    note(start.elapsed_time(end) / 1000)
