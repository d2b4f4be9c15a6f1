"""From noise to latents: any number of drawings in one UNet call, each on a way of its own.

Each drawing has its own scheduler and its own generator, as if it were alone: a scheduler remembers earlier steps, and
a shared one gives wrong pictures without an error. The rows of a call don't see each other and each has a timestep of
its own, so drawings need not be at the same step, nor have the same sampler, guidance or prompt: a drawing's latents
are those it would have alone, but for the rounding of another kernel (at most 1 of 255 in a pixel).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import SchedulerMixin

from workers.diffusion.drawing.conditioning import Conditioning, as_rows
from workers.diffusion.drawing.controls import Steer, residuals
from workers.diffusion.pictures.previews import alpha_at, without_noise


@dataclass(frozen=True, slots=True)
class Guidance:
    """What steers a drawing, and how hard to push away from `negative`.

    Without `negative` there is no guidance: one row in a UNet call instead of two.
    """

    prompt: Conditioning
    negative: Conditioning | None
    scale: float

    @property
    def rows(self) -> tuple[Conditioning, ...]:
        return (self.prompt,) if self.negative is None else (self.negative, self.prompt)

    def combine(self, noise: torch.Tensor) -> torch.Tensor:
        """(rows, …) as the UNet answered → (1, …)."""
        if self.negative is None:
            return noise
        away, towards = noise.chunk(2)
        return away + self.scale * (towards - away)


@dataclass(slots=True, eq=False)
class Drawing:
    """One picture's latents on their way through one pass.

    `latents` of (1, channels, height, width) are scaled for the scheduler; when no timestep is left they are ready for
    the VAE.
    """

    latents: torch.Tensor
    scheduler: SchedulerMixin
    timesteps: torch.Tensor  # on the CPU: those that this pass goes through
    guidance: Guidance
    extra: dict[str, Any]  # what its scheduler's step takes besides: the generator, for samplers that add noise
    size_ids: torch.Tensor | None = None  # (1, 6), for SDXL: the sizes that the picture pretends to have
    channels: torch.Tensor | None = None  # (1, more, height, width): what the UNet is shown besides the latents
    after_step: Callable[[torch.Tensor, int], torch.Tensor] | None = None  # (latents, steps done) → latents
    steers: tuple[Steer, ...] = ()
    is_watched: bool = False
    glimpse: torch.Tensor | None = None  # of one that is watched: its latents as they may become, without noise
    done: int = 0

    @property
    def is_done(self) -> bool:
        return self.done >= len(self.timesteps)

    @property
    def is_sound(self) -> bool:
        """Only numbers, no NaN and nothing infinite."""
        return bool(torch.isfinite(self.latents).all())

    @property
    def timestep(self) -> torch.Tensor:
        return self.timesteps[self.done]

    @property
    def row_count(self) -> int:
        return len(self.guidance.rows)

    @property
    def steers_now(self) -> tuple[Steer, ...]:
        return tuple(steer for steer in self.steers if steer.acts(self.done, len(self.timesteps)))

    def input(self) -> torch.Tensor:
        """What the UNet is shown, (rows, all channels, height, width)."""
        shown: torch.Tensor = self.scheduler.scale_model_input(self.latents, self.timestep)
        if self.channels is not None:
            shown = torch.cat([shown, self.channels], dim=1)
        return shown.expand(self.row_count, -1, -1, -1)

    def advance(self, noise: torch.Tensor) -> None:
        """One step, by what the UNet answered for its rows."""
        guided = self.guidance.combine(noise)
        if self.is_watched:
            self.glimpse = self._without_noise(guided)
        latents = self.scheduler.step(guided, self.timestep, self.latents, return_dict=False, **self.extra)[0]
        self.done += 1
        self.latents = self.after_step(latents, self.done) if self.after_step else latents

    def _without_noise(self, guided: torch.Tensor) -> torch.Tensor:
        shown = self.scheduler.scale_model_input(self.latents, self.timestep)
        alpha = alpha_at(self.scheduler.alphas_cumprod, float(self.timestep))
        return without_noise(shown, guided, alpha, self.scheduler.config.prediction_type)


class Batch:
    """The drawings of a UNet call, with what stays the same from call to call while they are the same."""

    def __init__(self, drawings: Sequence[Drawing]) -> None:
        self.drawings = tuple(drawings)
        conditionings = [each for drawing in drawings for each in drawing.guidance.rows]
        self._texts = as_rows(conditionings)
        self._counts = [drawing.row_count for drawing in drawings]
        self._added = self._sizes_and_pooled(conditionings)

    @property
    def row_count(self) -> int:
        return sum(self._counts)

    def predict(self, unet: Callable[..., tuple[torch.Tensor]]) -> tuple[torch.Tensor, ...]:
        """One UNet call: the noise that it sees in each drawing's rows."""
        inputs = torch.cat([drawing.input() for drawing in self.drawings])
        times = [drawing.timestep for drawing in self.drawings for _ in range(drawing.row_count)]
        timesteps = torch.stack(times).to(inputs.device, torch.float32, non_blocking=True)
        steers = [now for drawing in self.drawings for now in [drawing.steers_now] * drawing.row_count]
        steered = residuals(steers, inputs, timesteps, self._texts, self._added)
        noise = unet(inputs, timesteps, self._texts, added_cond_kwargs=self._added, return_dict=False, **steered)[0]
        return torch.split(noise, self._counts)

    def _sizes_and_pooled(self, conditionings: Sequence[Conditioning]) -> dict[str, torch.Tensor] | None:
        """What SDXL's UNet takes besides."""
        sizes = [drawing.size_ids for drawing in self.drawings for _ in range(drawing.row_count)]
        pooled = [each.pooled for each in conditionings]
        if sizes[0] is None or pooled[0] is None:
            return None
        return {
            "text_embeds": torch.cat([each for each in pooled if each is not None]),
            "time_ids": torch.cat([each for each in sizes if each is not None]),
        }
