"""When a checkpoint that is not in memory may come in."""

from __future__ import annotations

import time
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from workers.diffusion.checkpoint.residency import Residency
from workers.diffusion.request import Weights

# One that would push out another at work waits for so many times the time that loading takes, and as long after another
# has come in like this: so at most a tenth of the device's time goes into loading.
_TIMES = 10.0
_LEAST_S = 1.0


class Patience:
    """Of the checkpoints that wait outside the one comes in first that has waited for longest."""

    def __init__(self, residency: Residency) -> None:
        self._residency = residency
        self._outside_since: dict[Weights, float] = {}
        self._came_s = float("-inf")  # when the last one came in that had waited
        self._needs_all: Weights | None = None

    def may_run(self, weights: Weights, busy: AbstractSet[Weights], at_work: Iterable[Weights]) -> bool:
        """Is the checkpoint in memory, or may it come in now?

        It may where there is room beside the `busy` ones, where nobody who is in memory is `at_work`, and when it has
        waited long enough.
        """
        if self._residency.fits(weights, busy - {weights}) and not self._is_in_the_way(weights, busy):
            return True
        if not any(self._residency.has(each) for each in at_work):
            return True
        now_s = time.monotonic()
        since_s = self._outside_since.setdefault(weights, now_s)
        if since_s > min(self._outside_since.values()):
            return False
        return now_s - max(since_s, self._came_s) > max(_TIMES * self._residency.load_s, _LEAST_S)

    def needs_all(self, weights: Weights) -> None:
        """Memory ran out while others were in it, whatever the budget says: for as long as somebody is at work with
        these weights others come in only when they have waited.
        """
        self._needs_all = weights

    def _is_in_the_way(self, weights: Weights, busy: AbstractSet[Weights]) -> bool:
        if self._needs_all not in busy:
            self._needs_all = None
        return self._needs_all not in (None, weights) and not self._residency.has(weights)

    def comes_in(self, weights: Weights) -> None:
        """It has, or is there: it waits no longer."""
        if self._outside_since.pop(weights, None) is not None:
            self._came_s = time.monotonic()

    def keep(self, busy: AbstractSet[Weights]) -> None:
        """Whoever was stopped while its checkpoint waited leaves no credit to the next one that asks for it."""
        self._outside_since = {each: since_s for each, since_s in self._outside_since.items() if each in busy}
