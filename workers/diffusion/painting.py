"""One request at work: its prompts encoded, its drawings through their passes, its pictures decoded."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import torch
from diffusers.utils.torch_utils import randn_tensor

from app.errors import AtelierError, NodeFailed
from workers.diffusion.denoiser import Drawing, Guidance
from workers.diffusion.images import Pixels
from workers.diffusion.memory import as_told, is_out_of_memory
from workers.diffusion.pipeline import Pipeline
from workers.diffusion.request import ImageRequest, Progress, StopRequested, Weights
from workers.diffusion.schedulers import sampler
from workers.diffusion.ticket import Ticket

logger = logging.getLogger(__name__)


class Painting:
    """Belongs to the engine's thread. Picture i of the request is the drawing of `seed + i`."""

    def __init__(self, number: int, ticket: Ticket, weights: Weights) -> None:
        self.number = number  # counts the engine's paintings from 1
        self.ticket = ticket
        self.weights = weights  # the request's, or the same in full precision
        self.is_over = False
        self._drawings: list[Drawing] = []
        self._pictures: dict[int, Pixels] = {}
        self._told = 0
        self._began_s = time.monotonic()

    @property
    def request(self) -> ImageRequest:
        return self.ticket.request

    def begin(self, pipeline: Pipeline) -> list[Drawing]:
        """The drawings of its first pass, one for each picture. A second call begins all over again.

        Raises NodeFailed for values that can't be painted.
        """
        self._check(pipeline)
        self._pictures = {}
        self._began_s = time.monotonic()
        guidance = self._guidance(pipeline)
        seeds = range(self.request.seed, self.request.seed + self.request.n)
        self._drawings = [self._drawing(pipeline, guidance, seed) for seed in seeds]
        return list(self._drawings)

    def after_pass(self, pipeline: Pipeline, drawing: Drawing) -> Drawing | None:
        """The drawing of its next pass, or None when the picture is finished: the last one ends the painting.

        Raises NodeFailed for weights that give no numbers.
        """
        self._pictures[self._drawings.index(drawing)] = pipeline.to_pixels(drawing.latents)
        if len(self._pictures) == self.request.n:
            self.is_over = True
            self.ticket.succeed([self._pictures[i] for i in range(self.request.n)])
        return None

    def tell_progress(self) -> None:
        """Tells how many UNet calls are done, as the mean over its pictures, when that is more than before."""
        if self.is_over:
            return
        done = sum(drawing.done for drawing in self._drawings) // len(self._drawings)
        if done <= self._told:
            return
        self._told = done
        steps = len(self._drawings[0].timesteps)
        mean_s = (time.monotonic() - self._began_s) / done
        self.ticket.progress(Progress(done, steps, mean_s * (steps - done)))

    def guarded(self, work: Callable[[], None]) -> None:
        """Does a part of the painting: what goes wrong in it ends this painting, and no other."""
        failure: Exception | None = None
        try:
            work()
        except Exception as error:
            failure = error
        if failure is not None:  # outside of the block that knows its traceback
            self.fail(failure)

    def fail(self, error: Exception) -> None:
        """Ends it, once: what comes after the end is not told."""
        if self.is_over:
            return
        if not (isinstance(error, AtelierError | StopRequested) or is_out_of_memory(error)):
            logger.error("painting failed", exc_info=error, extra={"action": "painting_failed"})
        self.is_over = True
        self._drawings, self._pictures = [], {}
        self.ticket.fail(as_told(error))

    def _check(self, pipeline: Pipeline) -> None:
        request, grid = self.request, pipeline.components.pixels_per_latent
        if request.width % grid or request.height % grid or min(request.width, request.height) < grid:
            raise NodeFailed(
                f"A picture of {request.width} x {request.height} can't be painted: "
                f"width and height must be multiples of {grid}."
            )
        if request.steps < 1 or request.n < 1:
            raise NodeFailed("There must be at least one step and one picture.")
        if not 0 <= request.seed <= 2**63 - request.n:
            raise NodeFailed(f"The seed {request.seed} is out of range: it must be between 0 and 2^63 - n.")

    def _guidance(self, pipeline: Pipeline) -> Guidance:
        request = self.request
        guided = request.guidance_scale > 1
        prompt = pipeline.encode(request.prompt, request)
        negative = pipeline.encode(request.negative_prompt, request, negative=True) if guided else None
        return Guidance(prompt, negative, request.guidance_scale)

    def _drawing(self, pipeline: Pipeline, guidance: Guidance, seed: int) -> Drawing:
        """Noise from a generator on the CPU, so that a seed means the same picture on every device."""
        parts, request = pipeline.components, self.request
        how = sampler(request.sampler)
        scheduler = how.scheduler(parts.schedule, request.steps)
        generator = torch.Generator().manual_seed(seed)
        grid = parts.pixels_per_latent
        shape = (1, parts.vae.config.latent_channels, request.height // grid, request.width // grid)
        noise: torch.Tensor = randn_tensor(shape, generator=generator, device=parts.device, dtype=parts.dtype)
        return Drawing(
            latents=noise * scheduler.init_noise_sigma,
            scheduler=scheduler,
            timesteps=scheduler.timesteps,
            guidance=guidance,
            extra={"generator": generator} if how.takes_generator else {},
        )
