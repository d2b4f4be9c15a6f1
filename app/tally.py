"""What one process has counted since its start. Plain numbers: `app.api.metrics` gives them their names and forms."""

from __future__ import annotations

from bisect import bisect_left
from threading import Lock

ANSWER_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
LAG_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
ATTEMPT_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0)


class Spread:
    """A histogram: how many values fell at or below each bound and above the one before it, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # the last is for what is above every bound
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Called by one thread only."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """(bound as text, how many values are at or below it), the last bound being +Inf."""
        sums, so_far = [], 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            so_far += count
            sums.append((bound, float(so_far)))
        return sums


class Tally:
    """Counts and spreads of one process. They start at 0 with it; whoever reads them is used to that."""

    def __init__(self) -> None:
        self.event_lag = Spread(LAG_S)
        self._answers: dict[tuple[str, str, int], Spread] = {}
        self._attempts: dict[str, Spread] = {}
        self._counts: dict[tuple[str, ...], int] = {}
        self._lock = Lock()

    def count(self, what: str, *labels: str) -> None:
        """One more of `what` with these labels. From any thread."""
        key = (what, *labels)
        with self._lock:
            self._counts[key] = self._counts.get(key, 0) + 1

    def counts(self, what: str) -> list[tuple[tuple[str, ...], int]]:
        """(labels, how many) of each that was counted as `what`."""
        with self._lock:
            return [(key[1:], number) for key, number in self._counts.items() if key[0] == what]

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """An HTTP answer began. On the event loop only: nothing here waits for a lock."""
        key = (route, method, status)
        spread = self._answers.get(key)
        if spread is None:
            spread = self._answers[key] = Spread(ANSWER_S)
        spread.observe(seconds)

    def answers(self) -> list[tuple[tuple[str, str, int], Spread]]:
        """((route, method, status), seconds) of the answers. On the event loop only."""
        return list(self._answers.items())

    def attempted(self, kind: str, seconds: float) -> None:
        """A worker held a step of this kind for so long. On the thread that hears the worker only."""
        with self._lock:
            self._attempts.setdefault(kind, Spread(ATTEMPT_S)).observe(seconds)

    def attempts(self) -> list[tuple[str, Spread]]:
        """(kind, seconds) of the attempts."""
        with self._lock:
            return list(self._attempts.items())
