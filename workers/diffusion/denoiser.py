"""From noise to latents: several drawings at once, one UNet call a step for all of them.

Each drawing has its own scheduler and its own generator, as if it were alone: a scheduler remembers earlier steps, and
a shared one gives wrong pictures without an error. The rows of a batch don't see each other, so a drawing's latents
are those it would have alone, but for the rounding of another kernel (at most 1 of 255 in a pixel).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import SchedulerMixin, UNet2DConditionModel

from workers.diffusion.request import StopRequested


@dataclass(slots=True)
class Drawing:
    """One picture in the making: `latents` of shape (1, channels, height, width), scaled for its `scheduler`."""

    latents: torch.Tensor
    scheduler: SchedulerMixin
    extra: dict[str, Any]  # what its scheduler's step takes besides: the generator, for samplers that add noise

    def advance(self, noise: torch.Tensor, timestep: torch.Tensor) -> None:
        self.latents = self.scheduler.step(noise, timestep, self.latents, return_dict=False, **self.extra)[0]


@dataclass(frozen=True, slots=True)
class Guidance:
    """What steers the drawings: text embeddings of shape (1, tokens, width), and how hard to push away from `negative`.

    Without `negative` there is no guidance: one row a drawing instead of two.
    """

    prompt: torch.Tensor
    negative: torch.Tensor | None
    scale: float

    def rows(self, count: int) -> torch.Tensor:
        """The embeddings of one UNet call for `count` drawings: all negative ones, then all others."""
        parts = [self.prompt] if self.negative is None else [self.negative, self.prompt]
        return torch.cat([part.expand(count, -1, -1) for part in parts])

    def combine(self, noise: torch.Tensor) -> torch.Tensor:
        """(rows, …) as the UNet answered → (count, …)."""
        if self.negative is None:
            return noise
        away, towards = noise.chunk(2)
        return away + self.scale * (towards - away)


def denoise(
    unet: UNet2DConditionModel,
    drawings: Sequence[Drawing],
    guidance: Guidance,
    on_step: Callable[[int, int], None],
    should_stop: Callable[[], bool],
) -> None:
    """Takes `drawings`, which share their timesteps, to the end; their `latents` are then ready for the VAE.

    After each UNet call `on_step(done, of)` is called; before each, `should_stop()`: on True, raises StopRequested.
    """
    timesteps = drawings[0].scheduler.timesteps
    for_unet = timesteps.to(drawings[0].latents.device)
    rows = guidance.rows(len(drawings))
    for i, timestep in enumerate(timesteps):
        if should_stop():
            raise StopRequested
        inputs = torch.cat([each.scheduler.scale_model_input(each.latents, timestep) for each in drawings])
        if guidance.negative is not None:
            inputs = torch.cat([inputs, inputs])
        noise = guidance.combine(unet(inputs, for_unet[i], rows, return_dict=False)[0])
        for each, share in zip(drawings, noise.unsqueeze(1), strict=True):
            each.advance(share, timestep)
        on_step(i + 1, len(timesteps))
