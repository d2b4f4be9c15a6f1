"""A checkpoint in the memory of a worker."""

from __future__ import annotations

from math import inf

import msgspec


class Resident(msgspec.Struct, frozen=True):
    """What the weights of one checkpoint take, since when, and for how long yet.

    Weights that several checkpoints share count for each. Times are durations: no two machines' clocks are compared.
    """

    checkpoint: str
    size: int  # bytes, those on a GPU included
    vram_size: int  # bytes on a GPU
    age_s: float  # since it was loaded
    left_s: float | None  # until it is unloaded, if nobody asks for it; None: it stays

    @property
    def stays_s(self) -> float:
        """`left_s` as a number to be compared: endless for one that stays."""
        return inf if self.left_s is None else self.left_s

    def with_another(self, other: Resident) -> Resident:
        """The same checkpoint, held twice: all of its bytes, for as long as one of the two stays."""
        left_s = max(self.stays_s, other.stays_s)
        return Resident(
            self.checkpoint,
            self.size + other.size,
            self.vram_size + other.vram_size,
            max(self.age_s, other.age_s),
            None if left_s == inf else left_s,
        )
