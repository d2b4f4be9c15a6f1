"""One request at work: its prompts encoded, its drawings through their passes, its pictures decoded."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn.functional import interpolate

from app.errors import AtelierError, NodeFailed
from workers.diffusion.checkpoint.developing import Development
from workers.diffusion.checkpoint.pipeline import Pipeline
from workers.diffusion.drawing.denoiser import Drawing, Guidance
from workers.diffusion.drawing.given import hires_size
from workers.diffusion.drawing.passes import Pass, Subject
from workers.diffusion.loop.ticket import Ticket
from workers.diffusion.memory import as_told, is_out_of_memory
from workers.diffusion.pictures.images import Pixels, pasted
from workers.diffusion.pictures.previews import Previewer, load_tiny_decoder
from workers.diffusion.request import Hires, ImageRequest, Progress, StopRequested, Weights

logger = logging.getLogger(__name__)

PREVIEW_EVERY_S = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Interlude:
    """Between two passes: `work` for another thread, and the drawing that `then` goes on with its result."""

    work: Callable[[], Pixels]
    then: Callable[[Pipeline, Pixels], Drawing]


class Painting:
    """Belongs to the engine's thread. Picture i of the request is the one that `request.alone(i)` would give."""

    def __init__(self, number: int, ticket: Ticket, weights: Weights) -> None:
        self.number = number  # counts the engine's paintings from 1
        self.ticket = ticket
        self.weights = weights  # the request's, or the same in full precision
        self.is_over = False
        self._drawings: list[Drawing] = []  # of each picture's present pass
        self._calls_before: dict[int, int] = {}  # UNet calls of the first pass of those that are in the second
        self._calls = 0  # of each picture, in all of its passes
        self._pictures: dict[int, Pixels] = {}
        self._told = 0
        self._began_s = time.monotonic()
        self._previewer: Previewer | None = None
        self._previewed_s = 0.0

    @property
    def request(self) -> ImageRequest:
        return self.ticket.request

    def begin(self, pipeline: Pipeline) -> list[Drawing]:
        """The drawings of its first pass, one for each picture. A second call begins all over again.

        Raises NodeFailed for values that can't be painted.
        """
        if self.request.n == 0:
            self._succeed([])
            return []
        self._check(pipeline)
        self._pictures, self._calls_before = {}, {}
        self._began_s = time.monotonic()
        request, given = self.request, self.ticket.given
        if given.begun is not None and request.strength == 0:
            self._succeed([given.begun] * request.n)
            return []
        self._guidance = _guidance(pipeline, request)
        self._previewer = _previewer(pipeline, request) if request.previews else None
        first = Pass(pipeline, request, self._guidance, self._first_subject())
        self._calls = first.calls + (self._second_pass(pipeline).calls if request.hires else 0)
        self._drawings = [first.drawing(request.alone(i)) for i in range(request.n)]
        self._drawings[0].is_watched = request.previews
        return list(self._drawings)

    def is_last_pass(self, drawing: Drawing) -> bool:
        return self.request.hires is None or self._drawings.index(drawing) in self._calls_before

    def after_pass(self, pipeline: Pipeline, drawing: Drawing) -> Drawing | Interlude | Development:
        """The drawing of its next pass, or what has to be done before; after the last one the picture, which `finish`
        takes when it is developed.

        Raises NodeFailed for weights that give no numbers.
        """
        i, hires = self._drawings.index(drawing), self.request.hires
        if hires is None or i in self._calls_before:
            return pipeline.develop(drawing.latents)
        if hires.upscaler == "latent":
            return self._second_drawing(i, pipeline, latents=self._enlarged(pipeline, drawing.latents))
        pixels = pipeline.to_pixels(drawing.latents)
        return Interlude(
            work=partial(self.ticket.enlarge, pixels, hires.upscaler, hires_size(self.request)),
            then=partial(self._second_drawing, i),
        )

    def tell_progress(self) -> None:
        """Tells how many UNet calls are done, as the mean over its pictures, when that is more than before."""
        if self.is_over:
            return
        done = sum(drawing.done for drawing in self._drawings) + sum(self._calls_before.values())
        done //= len(self._drawings)
        if done <= self._told:
            return
        self._told = done
        mean_s = (time.monotonic() - self._began_s) / done
        self.ticket.progress(Progress(done, self._calls, mean_s * (self._calls - done)), self._preview())

    def _preview(self) -> Callable[[], bytes] | None:
        """What makes one of the first picture, now and then."""
        now_s = time.monotonic()
        if self._previewer is None or now_s - self._previewed_s < PREVIEW_EVERY_S:
            return None
        glimpse = self._drawings[0].glimpse
        if glimpse is None:
            return None
        self._previewed_s = now_s
        return partial(self._previewer.jpeg, glimpse)

    def guarded(self, work: Callable[[], object]) -> None:
        """Does a part of the painting: what goes wrong in it ends this painting, and no other."""
        failure: Exception | None = None
        try:
            work()
        except Exception as error:
            failure = error
        if failure is not None:  # outside of the block that knows its traceback
            self.fail(failure)

    def heed(self) -> None:
        """Ends it where nobody wants it any more."""
        self.guarded(self._stop_unless_wanted)

    def _stop_unless_wanted(self) -> None:
        if self.ticket.is_unwanted:
            raise StopRequested

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

    def _first_subject(self) -> Subject:
        request, given = self.request, self.ticket.given
        size = (request.width, request.height)
        return Subject(
            size=size,
            steps=request.steps,
            strength=request.strength,
            pixels=given.begun,
            share=given.share,
            hints=given.hints[size],
            is_new=given.image is None,
        )

    def _second_pass(
        self, pipeline: Pipeline, pixels: Pixels | None = None, latents: torch.Tensor | None = None
    ) -> Pass:
        """With neither pixels nor latents it only knows how long it will be."""
        request, size = self.request, hires_size(self.request)
        hires = request.hires or Hires()
        subject = Subject(
            size=size,
            steps=hires.steps or request.steps,
            strength=hires.strength,
            pixels=pixels,
            latents=latents,
            is_new=False,
            hints=self.ticket.given.hints[size],
        )
        return Pass(pipeline, request, self._guidance, subject)

    def _second_drawing(
        self, i: int, pipeline: Pipeline, pixels: Pixels | None = None, latents: torch.Tensor | None = None
    ) -> Drawing:
        drawing = self._second_pass(pipeline, pixels, latents).drawing(self.request.alone(i))
        drawing.is_watched = self._drawings[i].is_watched
        self._calls_before[i] = self._drawings[i].done
        self._drawings[i] = drawing
        return drawing

    def _enlarged(self, pipeline: Pipeline, latents: torch.Tensor) -> torch.Tensor:
        (width, height), grid = hires_size(self.request), pipeline.components.pixels_per_latent
        return interpolate(latents, (height // grid, width // grid), mode="bilinear", antialias=False)

    def finish(self, drawing: Drawing, painted: Pixels) -> None:
        """The last one ends the painting."""
        i, given = self._drawings.index(drawing), self.ticket.given
        if given.share is not None and given.image is not None:
            painted = pasted(painted, given.image, given.share)
        self._pictures[i] = painted
        if len(self._pictures) == self.request.n:
            self._succeed([self._pictures[i] for i in range(self.request.n)])

    def _succeed(self, pictures: list[Pixels]) -> None:
        self.is_over = True
        self.ticket.succeed(pictures)


def _guidance(pipeline: Pipeline, request: ImageRequest) -> Guidance:
    guided = request.guidance_scale > 1
    prompt = pipeline.encode(request.prompt, request)
    negative = pipeline.encode(request.negative_prompt, request, negative=True) if guided else None
    return Guidance(prompt, negative, request.guidance_scale)


def _previewer(pipeline: Pipeline, request: ImageRequest) -> Previewer:
    parts, path = pipeline.components, request.preview_path
    return Previewer(parts.family, load_tiny_decoder(path, parts.device, parts.dtype) if path else None)
