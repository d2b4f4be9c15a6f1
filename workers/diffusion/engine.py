"""The one door of the diffusion engine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from workers.diffusion import png
from workers.diffusion.engine_loop import EngineLoop
from workers.diffusion.files_ahead import expected_bytes
from workers.diffusion.loading import load
from workers.diffusion.memory import as_told, memory_for_weights
from workers.diffusion.pipeline import Pipeline
from workers.diffusion.request import Image, ImageRequest, Limits, Painted, Progress, Resident, Weights
from workers.diffusion.residency import Residency
from workers.diffusion.threads import thread_count
from workers.diffusion.ticket import Ticket


def best_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


class Engine:
    """Paints what any number of threads ask for, together as far as that pays, on one thread of its own.

    Half precision on a GPU; single on a CPU, where half is three times slower.
    """

    def __init__(self, device: str | None = None, threads: int = 0, limits: Limits | None = None) -> None:
        if count := thread_count(threads):
            torch.set_num_threads(count)
        self.device = torch.device(device) if device else best_device()
        self.dtype = torch.float32 if self.device.type == "cpu" else torch.float16
        limits = limits or Limits()
        if not limits.budget_bytes:
            limits = replace(limits, budget_bytes=memory_for_weights(self.device))
        self.residency = Residency(limits, self._pipeline, self._expected_bytes)
        self._loop = EngineLoop(self.residency)
        for logging in (diffusers_logging, transformers_logging):
            logging.set_verbosity_error()
            logging.disable_progress_bar()

    @property
    def residents(self) -> tuple[Resident, ...]:
        """The checkpoints in memory, least recently loaded first."""
        return self.residency.residents

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
    ) -> Painted:
        """The request's pictures in the order of their seeds, when all are finished.

        `on_progress` hears of the UNet calls, on the thread that called. `should_stop` is asked between two calls, on
        the engine's thread; on True StopRequested is raised. Raises CheckpointUnavailable, NodeFailed, OutOfMemory;
        after any of them the engine can be used again.
        """
        ticket = Ticket(request, should_stop)
        self._loop.give(ticket)
        pictures = ticket.follow(on_progress)
        seeds = range(request.seed, request.seed + request.n)
        size = request.shown_size or (request.width, request.height)
        images = [
            Image(png.encode(pixels, request, seed), seed, *size) for pixels, seed in zip(pictures, seeds, strict=True)
        ]
        return Painted(tuple(images), ticket.load_s)

    def close(self) -> None:
        """Ends the thread after its turn. What has not been painted is never told."""
        self._loop.give(None)
        self._loop.join()

    def _pipeline(self, weights: Weights) -> Pipeline:
        return Pipeline(load(weights, self.device, self._dtype(weights)))

    def _expected_bytes(self, weights: Weights) -> int:
        return expected_bytes(weights, self._dtype(weights))

    def _dtype(self, weights: Weights) -> torch.dtype:
        return torch.float32 if weights.in_full else self.dtype

    def between_turns(self, work: Callable[[], float]) -> float:
        """Does `work` on the engine's thread. Raises what it raises."""
        done = threading.Event()
        results: list[float] = []
        failures: list[Exception] = []

        def order() -> None:
            try:
                results.append(work())
            except Exception as error:
                failures.append(as_told(error))
            done.set()

        self._loop.give(order)
        done.wait()
        if failures:
            raise failures[0]
        return results[0]
