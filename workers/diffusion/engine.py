"""The one door of the diffusion engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from app.errors import NodeFailed
from workers.diffusion.checkpoint.assembly import Assembly, Estate
from workers.diffusion.checkpoint.files_ahead import expected_bytes
from workers.diffusion.checkpoint.loading import load
from workers.diffusion.checkpoint.pipeline import Pipeline
from workers.diffusion.checkpoint.residency import Leaver, Residency
from workers.diffusion.checkpoint.sharing import modules_of
from workers.diffusion.checkpoint.side import Beside, Here, Side
from workers.diffusion.checkpoint.speed import arrange
from workers.diffusion.drawing.given import given_with
from workers.diffusion.loop.engine_loop import EngineLoop
from workers.diffusion.loop.ticket import Chore, Enlarge, Ticket
from workers.diffusion.machine import described
from workers.diffusion.memory import memory_for_weights, spare_libraries
from workers.diffusion.pictures import encoding
from workers.diffusion.pictures.images import Pixels, Size, pixels_as_they_are
from workers.diffusion.pictures.opening import MOST_PIXELS, opened
from workers.diffusion.pictures.upscalers import LANCZOS, Upscalers
from workers.diffusion.request import (
    EnlargeRequest,
    Image,
    ImageRequest,
    Limits,
    Painted,
    Precision,
    Progress,
    Resident,
    StopRequested,
    Tuning,
    Weights,
)
from workers.diffusion.threads import thread_count

T = TypeVar("T")


def best_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def numbered(device: torch.device) -> torch.device:
    """The device with its number, which a GPU has that nobody named: threads can only be set on one with a number."""
    if device.type != "cuda" or device.index is not None:
        return device
    return torch.device("cuda", torch.cuda.current_device())


def precision_of(device: torch.device, wanted: Precision) -> torch.dtype:
    """On a CPU half is three times slower than single. On a GPU float16 is as fast as bfloat16 and eight times as fine;
    what is too large for it is painted in single precision, once it has happened.
    """
    if wanted == "auto":
        return torch.float32 if device.type == "cpu" else torch.float16
    kinds = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    return kinds[wanted]


class Engine:
    """Paints what any number of threads ask for, together as far as that pays, on one thread of its own."""

    def __init__(
        self,
        device: str | None = None,
        threads: int = 0,
        limits: Limits | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        if count := thread_count(threads):
            torch.set_num_threads(count)
        spare_libraries()
        self.device = numbered(torch.device(device) if device else best_device())
        self._tuning = tuning or Tuning()
        self.dtype = precision_of(self.device, self._tuning.precision)
        self._side = self._open_side()
        self._upscalers = Upscalers(self.device)
        limits = limits or Limits()
        if not limits.budget_bytes:
            limits = replace(limits, budget_bytes=memory_for_weights(self.device))
        self.residency = Residency(limits, self._pipeline, self._expected_bytes)
        self._loop = EngineLoop(self.residency, self.device)
        for logging in (diffusers_logging, transformers_logging):
            logging.disable_progress_bar()

    @property
    def residents(self) -> tuple[Resident, ...]:
        """The checkpoints in memory, least recently loaded first."""
        return self.residency.residents

    def unload(self, name: str) -> None:
        """Takes a checkpoint out of memory; whoever is at work with it has it loaded again."""
        self.between_turns(lambda: self.residency.drop(name))

    def dismiss(self, name: str) -> None:
        """A checkpoint leaves memory when nobody is painted with it any more, unless it is pinned or somebody begins to
        use it until then. Returns before it has left.
        """
        self.between_turns(lambda: self.residency.dismiss(name))

    @property
    def waiting(self) -> int:
        """How many requests, and pictures of requests, are in no UNet call yet."""
        return self._loop.waiting

    @property
    def has_room(self) -> bool:
        """False while somebody waits for a checkpoint, or to be let into a UNet call: one more would only wait, too.

        A few may have come since the last call: they would join the next one together.
        """
        return self._loop.has_room

    def warm(self, weights: Weights) -> float:
        """Loads a checkpoint before its request; returns how many seconds that took, 0 when it was in memory.

        Raises CheckpointUnavailable, OutOfMemory.
        """
        return self.between_turns(lambda: self.residency.bring(weights))

    def paint(
        self,
        request: ImageRequest,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
        complete: Callable[[ImageRequest], ImageRequest] = lambda request: request,
    ) -> Painted:
        """The request's pictures in the order of their seeds, when all are finished.

        `on_progress` hears of the UNet calls, on the thread that called. `should_stop` is asked between two calls, on
        the engine's thread; on True StopRequested is raised. `complete` gives, on the thread that called, the
        request as the files are to tell it, when all is painted. Raises CheckpointUnavailable, NodeFailed,
        OutOfMemory; after any of them the engine can be used again.
        """
        enlarge = partial(self._upscalers.enlarge, between=partial(_halt_on, should_stop))
        ticket = Ticket(request, given_with(request), should_stop, enlarge)
        self._loop.give(ticket)
        try:
            pictures = ticket.follow(on_progress)
        except Exception:
            self._loop.give(Chore(_nothing))  # it may wait for this thread, which has gone on
            raise
        request = complete(request)
        if ticket.in_full:
            request = replace(request, weights=replace(request.weights, in_full=True))
        shown = (_shown(pixels, request, enlarge) for pixels in pictures)
        images = [self._image(pixels, request.alone(i)) for i, pixels in enumerate(shown)]
        return Painted(tuple(images), ticket.load_s)

    def enlarge(self, request: EnlargeRequest, should_stop: Callable[[], bool] = lambda: False) -> Image:
        """On the thread that calls. Raises NodeFailed, CheckpointUnavailable, OutOfMemory, StopRequested."""
        pixels = pixels_as_they_are(opened(request.image))
        size = _times((pixels.shape[1], pixels.shape[0]), request.enlarge.scale)
        larger = self._upscalers.enlarge(pixels, request.enlarge.upscaler, size, partial(_halt_on, should_stop))
        return self._image(larger, request)

    def close(self) -> None:
        """Ends the thread after its turn. Whoever waits, or comes later, hears Unavailable."""
        self._loop.close()

    def _image(self, pixels: Pixels, request: ImageRequest | EnlargeRequest) -> Image:
        """`pixels` as the file of the request for this one picture."""
        seed, dtype = 0, self.dtype
        if isinstance(request, ImageRequest):
            seed, dtype = request.seed, self._dtype(request.weights)
        content = encoding.encode(pixels, request, described(self.device, dtype, self._tuning.without))
        return Image(content, seed, width=pixels.shape[1], height=pixels.shape[0])

    def _pipeline(self, weights: Weights, leaver: Leaver | None) -> Pipeline:
        without = self._tuning.without
        estate = Estate(modules_of(leaver.pipeline.components), leaver.foreign) if leaver else None
        assembly = Assembly(self.device, estate, pinned="pinned" not in without)
        components = load(weights, self.device, self._dtype(weights), assembly=assembly)
        arrange(components, fuses="fused" not in without)
        before = leaver.pipeline if leaver else None
        return Pipeline(components, before, side=self._side, records="graphs" not in without)

    def _open_side(self) -> Side:
        without = self._tuning.without
        if self.device.type != "cuda" or "beside" in without:
            return Here()
        return Beside(self.device, pinned="pinned" not in without)

    def _expected_bytes(self, weights: Weights) -> int:
        return expected_bytes(weights, self._dtype(weights).itemsize)

    def _dtype(self, weights: Weights) -> torch.dtype:
        return torch.float32 if weights.in_full else self.dtype

    def between_turns(self, work: Callable[[], T]) -> T:
        """Does `work` on the engine's thread. Raises what it raises, and Unavailable after `close`."""
        chore = Chore(work)
        self._loop.give(chore)
        return chore.wait()


def _nothing() -> None:
    """A turn is all that is wanted."""


def _halt_on(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise StopRequested


def _shown(pixels: Pixels, request: ImageRequest, enlarge: Enlarge) -> Pixels:
    """A painted picture in the size that it is shown in."""
    size = request.shown_size or (pixels.shape[1], pixels.shape[0])
    if request.enlarge is None:
        return enlarge(pixels, LANCZOS, size)
    return enlarge(pixels, request.enlarge.upscaler, _times(size, request.enlarge.scale))


def _times(size: Size, scale: float) -> Size:
    width, height = (max(round(side * scale), 1) for side in size)
    if width * height > MOST_PIXELS:
        said = f"Enlarged, the picture would have {width} x {height} pixels; it may have {MOST_PIXELS:,}."
        raise NodeFailed(said, error_type="InvalidParam")
    return width, height
