"""How many rows a UNet call should have on this device: measured, not set."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

MOST_ROWS = 64
_LEVELS = (2, 4, 6, 8, 12, 16, 24, 32, 48, MOST_ROWS)
_GAIN = 1.05  # a larger call has to bring so much more for each second, or first come, first served is better for all
_FIRST = 16  # rows that are tried before anything was measured
_SAMPLES = 8  # calls of a size before it is judged
_RECENT = 16
_TRUST_S = 30.0  # then a size that did not pay is tried again: the machine may have been busy with something else
_LIMIT_TRUST_S = 600.0  # the same of one that did not fit: others may have had the memory


@dataclass(slots=True)
class _Measured:
    """The last few calls of one size. The one in the middle counts: where a machine is busy with something else, the
    fastest of many short calls was left alone, and none of the long ones was.
    """

    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    at_s: float = 0.0

    @property
    def usual_s(self) -> float:
        return median(self.seconds)


class Curve:
    """The step-time curve of one checkpoint at one size, from the calls that were made anyway."""

    def __init__(self) -> None:
        self._measured: dict[int, _Measured] = {}
        self._most = MOST_ROWS
        self._limited_s = 0.0

    def note(self, rows: int, seconds: float) -> None:
        """A call of `rows` took `seconds`, the steps of its drawings with it."""
        measured = self._measured.setdefault(rows, _Measured())
        measured.seconds.append(seconds)
        measured.at_s = time.monotonic()

    def limit(self, rows: int) -> None:
        """More than `rows` don't fit into memory, for now."""
        self._most = max(1, rows)
        self._limited_s = time.monotonic()

    def expected_s(self, rows: int) -> float:
        """How long a call of `rows` will take: as long as the next smaller one that was measured; 0: nothing was."""
        known = [size for size in self._measured if size <= rows] or list(self._measured)
        return self._measured[max(known)].usual_s if known else 0.0

    @property
    def cap(self) -> int:
        """The most rows that still pay: up to twice as many as were ever tried, less those that were found not to."""
        if time.monotonic() - self._limited_s > _LIMIT_TRUST_S:
            self._most = MOST_ROWS
        tried = max(self._measured, default=0)
        cap = min(max(_FIRST, 2 * tried), self._most)
        judged = self._judged()
        for (smaller, before_s), (larger, after_s) in pairwise(judged):
            if larger / after_s < _GAIN * smaller / before_s:
                return min(smaller, cap)
        return cap

    def _judged(self) -> list[tuple[int, float]]:
        """(rows, seconds) of the largest size of each level that was measured often enough, and not too long ago."""
        since_s = time.monotonic() - _TRUST_S
        known = {
            next(level for level in _LEVELS if rows <= level): (rows, each.usual_s)
            for rows, each in sorted(self._measured.items())
            if len(each.seconds) >= _SAMPLES and each.at_s > since_s
        }
        return list(known.values())
