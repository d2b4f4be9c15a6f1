"""The drawings that share a UNet call."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch

from workers.diffusion.drawing.denoiser import Batch, Drawing
from workers.diffusion.drawing.painting import Painting
from workers.diffusion.loop.curve import Curve
from workers.diffusion.request import Lora, Weights


@dataclass(frozen=True, slots=True)
class GroupKey:
    """What drawings must have in common for one UNet call, besides the checkpoint.

    `alone` is the number of a painting that shares its calls with nobody; 0 for all others.
    """

    loras: tuple[Lora, ...]
    height: int  # of the latents
    width: int
    alone: int = 0


@dataclass(slots=True, eq=False)
class Entry:
    """A drawing in a group, and whose it is."""

    drawing: Drawing
    painting: Painting
    is_last_chance: bool = False  # alone in its call, and in memory with nothing that can be made again

    def take_last_chance(self) -> bool:
        """False when it has had it already."""
        taken, self.is_last_chance = not self.is_last_chance, True
        return taken


@dataclass(slots=True, eq=False)
class Group:
    """Drawings join in the order they came, at every tick, as far as the curve says that it pays."""

    weights: Weights
    key: GroupKey
    curve: Curve
    waiting: deque[Entry] = field(default_factory=deque)
    active: list[Entry] = field(default_factory=list)
    deficit_s: float = 0.0  # see `turns`
    _batch: Batch | None = None

    def add(self, entry: Entry) -> None:
        self.waiting.append(entry)

    @property
    def has_work(self) -> bool:
        return bool(self.active or self.waiting)

    @property
    def expected_s(self) -> float:
        return self.curve.expected_s(self.row_count)

    def drop(self, painting: Painting) -> None:
        self.waiting = deque(entry for entry in self.waiting if entry.painting is not painting)
        self.active = [entry for entry in self.active if entry.painting is not painting]

    def admit(self) -> None:
        """Lets in whoever waits, until the call is as large as it should be."""
        rows = self.row_count
        cap = 1 if self.key.alone else self.curve.cap
        while self.waiting and (not self.active or rows + self.waiting[0].drawing.row_count <= cap):
            entry = self.waiting.popleft()
            rows += entry.drawing.row_count
            self.active.append(entry)

    def shrink(self) -> bool:
        """After a call that did not fit into memory: half of it waits again. False where there is no half."""
        half = len(self.active) // 2
        if not half:
            return False
        self.curve.limit(sum(entry.drawing.row_count for entry in self.active[:half]))
        self.waiting.extendleft(reversed(self.active[half:]))
        del self.active[half:]
        return True

    @property
    def row_count(self) -> int:
        """Of its next UNet call."""
        return sum(entry.drawing.row_count for entry in self.active)

    def tick(self, unet: Callable[..., tuple[torch.Tensor]]) -> None:
        """One UNet call and one step of each active drawing.

        Where the call fails no drawing has moved. A drawing whose own step fails takes its painting with it only.
        """
        drawings = tuple(entry.drawing for entry in self.active)
        if self._batch is None or self._batch.drawings != drawings:
            self._batch = Batch(drawings)
        for entry, noise in zip(self.active, self._batch.predict(unet), strict=True):
            entry.painting.guarded(partial(entry.drawing.advance, noise))

    @property
    def is_shared(self) -> bool:
        return any(entry.painting is not self.active[0].painting for entry in self.active)

    def tick_apart(self, unet: Callable[..., tuple[torch.Tensor]]) -> None:
        """The same step once more, in a call for each painting: what fails then ends that one only."""
        entries = self.active
        for painting in {entry.painting.number: entry.painting for entry in entries}.values():
            self.active = [entry for entry in entries if entry.painting is painting]
            painting.guarded(partial(self.tick, unet))
        self.active = entries

    def fail(self, error: Exception) -> None:
        """Ends the paintings of all active drawings."""
        for entry in self.active:
            entry.painting.fail(error)

    def take_done(self) -> list[Entry]:
        """The entries that leave: those whose pass is over, and those of paintings that have failed."""
        left = [entry for entry in self.active if entry.drawing.is_done or entry.painting.is_over]
        if left:
            self.active = [entry for entry in self.active if entry not in left]
            self._batch = None
        return left
