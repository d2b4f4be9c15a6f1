"""One pass of a painting: how its drawings begin, and what holds them on their way.

Everything that one pass can be: from noise; from a picture; from a picture of which a part is kept, with any checkpoint
(what is kept is put back at each step) or with one made for it (its UNet is shown the mask and the picture besides).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

import torch
from diffusers import SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor

from app.errors import NodeFailed
from workers.diffusion.checkpoint.pipeline import Encoded, Pipeline
from workers.diffusion.drawing.beginnings import Kept, calls_left, noise
from workers.diffusion.drawing.controls import Steer
from workers.diffusion.drawing.denoiser import Drawing, Guidance
from workers.diffusion.drawing.schedulers import sampler
from workers.diffusion.pictures.images import Pixels, Share, Size, hole, latent_hole, to_unit
from workers.diffusion.request import Control, ImageRequest


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """What is painted. One that `is_new` has neither `pixels` nor `latents`, and is the prompt's alone."""

    size: Size
    steps: int
    strength: float = 1.0
    pixels: Pixels | None = None
    latents: torch.Tensor | None = None  # instead of the pixels
    share: Share | None = None  # of the pixels
    hints: tuple[Pixels, ...] = ()
    is_new: bool = True

    @property
    def begins_with_noise_alone(self) -> bool:
        """However far a picture is changed it shines through a little; where a part is kept it must not."""
        return self.is_new or (self.share is not None and self.strength >= 1)


class Pass:
    """For any number of drawings: what they share is made once."""

    def __init__(self, pipeline: Pipeline, request: ImageRequest, guidance: Guidance, subject: Subject) -> None:
        self._pipeline = pipeline
        self._parts = pipeline.components
        self._request = request
        self._guidance = guidance
        self._subject = subject
        self._how = sampler(request.sampler)
        self._fills = self._parts.is_inpainting

    @property
    def calls(self) -> int:
        """UNet calls that each drawing needs."""
        return len(self._schedule()[1])

    def drawing(self, request: ImageRequest) -> Drawing:
        """The drawing of one picture: `request` with its own seeds."""
        subject = self._subject
        scheduler, timesteps = self._schedule()
        generator = torch.Generator().manual_seed(request.seed)
        needs_start = not (subject.is_new or (subject.begins_with_noise_alone and self._fills))
        start = self._start(generator) if needs_start else None
        own = self._noise(request, generator)
        pure = start is None or subject.begins_with_noise_alone
        drawing = Drawing(
            latents=own * scheduler.init_noise_sigma if pure else scheduler.add_noise(start, own, timesteps[:1]),
            scheduler=scheduler,
            timesteps=timesteps,
            guidance=self._guidance,
            extra={"generator": generator} if self._how.takes_generator else {},
            size_ids=self._size_ids,
            steers=self._steers,
        )
        if self._fills:
            drawing.channels = self._filling(generator)
        elif start is not None and subject.share is not None:
            randn_tensor(own.shape, generator=generator, dtype=self._parts.vae.dtype)  # diffusers draws it, unused
            kept = Kept(start, own, self._latent_hole)
            drawing.after_step = partial(_keep, kept, scheduler, timesteps)
        return drawing

    def _schedule(self) -> tuple[SchedulerMixin, torch.Tensor]:
        subject = self._subject
        scheduler = self._how.scheduler(self._parts.schedule, subject.steps)
        if subject.is_new:
            return scheduler, scheduler.timesteps
        return scheduler, calls_left(scheduler, subject.steps, subject.strength)

    def _noise(self, request: ImageRequest, generator: torch.Generator) -> torch.Tensor:
        variation = (request.variation_seed, request.variation_strength)
        return noise(self._latent_shape, generator, self._parts.dtype, variation).to(self._parts.device)

    def _start(self, generator: torch.Generator) -> torch.Tensor:
        if self._subject.latents is not None:
            return self._subject.latents
        assert self._encoded is not None
        return self._encoded.sample(generator)

    def _filling(self, generator: torch.Generator) -> torch.Tensor:
        """What a UNet for inpainting is shown besides: where to paint, and the picture with its hole in grey."""
        return torch.cat([self._latent_hole, self._encoded_rest.sample(generator)], dim=1)

    @cached_property
    def _size_ids(self) -> torch.Tensor | None:
        """To SDXL a picture says its size: as it was taken, where it was cut, and as it is."""
        if self._parts.unet.config.addition_embed_type != "text_time":
            return None
        width, height = self._subject.size
        return torch.tensor([[height, width, 0, 0, height, width]], device=self._parts.device, dtype=self._parts.dtype)

    @property
    def _latent_shape(self) -> tuple[int, int, int, int]:
        (width, height), grid = self._subject.size, self._parts.pixels_per_latent
        return 1, self._parts.vae.config.latent_channels, height // grid, width // grid

    @cached_property
    def _encoded(self) -> Encoded | None:
        pixels = self._subject.pixels
        return None if pixels is None else self._pipeline.to_latents(to_unit(pixels) * 2 - 1)

    @cached_property
    def _encoded_rest(self) -> Encoded:
        subject, (width, height) = self._subject, self._subject.size
        rest = torch.zeros(1, 3, height, width)
        if subject.pixels is not None and subject.share is not None:
            rest = (to_unit(subject.pixels) * 2 - 1) * (1 - hole(subject.share))
        return self._pipeline.to_latents(rest)

    @cached_property
    def _latent_hole(self) -> torch.Tensor:
        parts, share = self._parts, self._subject.share
        _, _, height, width = self._latent_shape
        painted = torch.ones(1, 1, height, width) if share is None else latent_hole(share, parts.pixels_per_latent)
        return painted.to(parts.device, parts.dtype)

    @cached_property
    def _steers(self) -> tuple[Steer, ...]:
        return tuple(
            self._steer(control, hint)
            for control, hint in zip(self._request.controls, self._subject.hints, strict=True)
            if control.weight != 0
        )

    def _steer(self, control: Control, pixels: Pixels) -> Steer:
        parts = self._parts
        net, hint = self._pipeline.control_net(control.path), to_unit(pixels).to(parts.device, parts.dtype)
        if 2 ** (len(net.config.conditioning_embedding_out_channels) - 1) != parts.pixels_per_latent:
            raise NodeFailed(f"The ControlNet {control.name} was made for other latents than this checkpoint's.")
        return Steer(net, hint, control.weight, control.start, control.end)


def _keep(
    kept: Kept, scheduler: SchedulerMixin, timesteps: torch.Tensor, latents: torch.Tensor, done: int
) -> torch.Tensor:
    return kept.around(latents, scheduler, timesteps[done] if done < len(timesteps) else None)
