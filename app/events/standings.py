"""How runs that are polled stood when they were last read, kept true in memory: whoever asks again costs no query."""

from __future__ import annotations

import asyncio

from app import clock
from app.domain.artifact import holds_artifact
from app.domain.run import Run, is_terminal
from app.events.lookout import Lookout
from app.events.wakeups import Note, Wake

_KEPT_S = 10.0  # a run that nobody polls for so long is forgotten
_MOST = 10_000  # what comes beyond is read each time
_TRUE_S = 3.0  # without a look at the store for so long, nothing is known


class Standing:
    """What tells one state of a run from another. `seq` is the number of its last fact."""

    __slots__ = ("app_id", "has_files", "has_moved", "is_over", "polled_s", "read_s", "run_id", "seq")

    def __init__(self, run: Run, now_s: float) -> None:
        self.run_id = run.id
        self.app_id = run.app_id
        self.seq = run.last_seq
        self.is_over = is_terminal(run.status)
        self.has_files = holds_artifact(run.outputs)
        self.has_moved = False
        self.read_s = self.polled_s = now_s

    def hear(self, note: Note) -> None:
        if isinstance(note, Wake):
            self.has_moved = True


class Standings:
    """The bounded memory of one process. A run's end is final; what still goes on is followed."""

    def __init__(self, lookout: Lookout) -> None:
        self._lookout = lookout
        self._known: dict[str, Standing] = {}
        self._sweep: asyncio.TimerHandle | None = None

    def find(self, run_id: str) -> Standing | None:
        """How the run stands now, or None when that must be read."""
        standing = self._known.get(run_id)
        if standing is None:
            return None
        now_s = clock.monotonic()
        standing.polled_s = now_s
        if standing.is_over:
            return standing
        if standing.has_moved or now_s - max(standing.read_s, self._lookout.looked_s) > _TRUE_S:
            self._forget(standing)
            return None
        return standing

    def remember(self, run: Run) -> Standing:
        """Keeps how a run that was read just now stands."""
        standing = Standing(run, clock.monotonic())
        old = self._known.get(run.id)
        if old is not None:
            self._forget(old)
        if len(self._known) < _MOST:
            self._known[run.id] = standing
            if not standing.is_over:
                self._lookout.add(standing)
            if self._sweep is None:
                self._sweep = asyncio.get_running_loop().call_later(_KEPT_S, self._forget_unasked)
        return standing

    def _forget(self, standing: Standing) -> None:
        del self._known[standing.run_id]
        if not standing.is_over:
            self._lookout.remove(standing)

    def _forget_unasked(self) -> None:
        before_s = clock.monotonic() - _KEPT_S
        for standing in [each for each in self._known.values() if each.polled_s <= before_s]:
            self._forget(standing)
        again = asyncio.get_running_loop().call_later(_KEPT_S, self._forget_unasked) if self._known else None
        self._sweep = again
