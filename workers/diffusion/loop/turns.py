"""Whose turn it is: deficit round robin over groups, in seconds of the device."""

from __future__ import annotations

from collections.abc import Sequence

from workers.diffusion.loop.groups import Group


class Turns:
    """Gives each group the same share of the device, however long its UNet calls are.

    A group is given a quantum whenever its turn comes, and goes on while what it was given covers the next call. The
    quantum is the longest call of all, so every group moves in every round.
    """

    def __init__(self) -> None:
        self._last: Group | None = None

    def next(self, groups: Sequence[Group]) -> Group:
        """The group of `groups`, of which there is at least one, that makes the next UNet call."""
        if len(groups) == 1:
            groups[0].deficit_s = 0.0
            self._last = groups[0]
            return groups[0]
        place = next((i for i, group in enumerate(groups) if group is self._last), -1)
        if place >= 0 and groups[place].deficit_s >= groups[place].expected_s > 0:
            return groups[place]
        quantum_s = max(group.expected_s for group in groups)
        chosen = groups[(place + 1) % len(groups)]
        # What is left over from one turn is kept for the next, but nobody saves up for a long absence of the others.
        chosen.deficit_s = min(chosen.deficit_s + quantum_s, 2 * quantum_s)
        self._last = chosen
        return chosen

    @staticmethod
    def charge(group: Group, seconds: float) -> None:
        group.deficit_s -= seconds
