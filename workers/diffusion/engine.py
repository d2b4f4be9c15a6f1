"""The one door of the diffusion engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from app.errors import OutOfMemory
from workers.diffusion import png
from workers.diffusion.loading import load
from workers.diffusion.memory import give_back_memory, is_out_of_memory
from workers.diffusion.pipeline import Pipeline
from workers.diffusion.request import Image, ImageRequest, Progress, Weights
from workers.diffusion.residency import Residency

T = TypeVar("T")


def best_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


class Engine:
    """Paints, with at most `resident` checkpoints in memory. Call it from one thread only: nothing in it is locked.

    Half precision on a GPU; single on a CPU, where half is three times slower.
    """

    def __init__(self, device: str | None = None, resident: int = 1, threads: int = 0) -> None:
        if threads:
            torch.set_num_threads(threads)
        self.device = torch.device(device) if device else best_device()
        self.dtype = torch.float32 if self.device.type == "cpu" else torch.float16
        self.residency = Residency(resident, self._pipeline)
        self._names: dict[str, str] = {}
        for logging in (diffusers_logging, transformers_logging):
            logging.set_verbosity_error()
            logging.disable_progress_bar()

    @property
    def resident(self) -> list[str]:
        """The names of the checkpoints in memory, least recently used first."""
        return [self._names[path] for path in self.residency.paths]

    def warm(self, name: str, path: str, family: str) -> float:
        """Loads a checkpoint before its request; returns how many seconds that took, 0 when it was in memory.

        Raises CheckpointUnavailable, OutOfMemory.
        """
        self._names[path] = name
        return self._within_memory(lambda: self.residency.bring(path, family))

    def paint(
        self,
        request: ImageRequest,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> list[Image]:
        """The request's pictures as PNG, in the order of their seeds.

        `on_progress` hears of each UNet call; `should_stop` is asked before each, and on True StopRequested is raised.
        Raises CheckpointUnavailable, NodeFailed, OutOfMemory; after any of them the engine can be used again.
        """
        self._names[request.checkpoint_path] = request.checkpoint_name
        return self._within_memory(lambda: self._paint(request, on_progress, should_stop))

    def _paint(
        self, request: ImageRequest, on_progress: Callable[[Progress], None], should_stop: Callable[[], bool]
    ) -> list[Image]:
        pipeline = self.residency.pipeline(request.checkpoint_path, request.family)
        pictures = pipeline.paint(request, on_progress, should_stop)
        seeds = range(request.seed, request.seed + request.n)
        return [
            Image(png.encode(pixels, request, seed), seed, *(request.shown_size or (request.width, request.height)))
            for pixels, seed in zip(pictures, seeds, strict=True)
        ]

    def _pipeline(self, path: Path, family: str) -> Pipeline:
        return Pipeline(load(Weights(path.name, str(path), family), self.device, self.dtype))

    def _within_memory(self, work: Callable[[], T]) -> T:
        """Runs `work`. Where memory runs out, frees what it held before the error goes on.

        The error leaves its `except` block first: its traceback holds the frames, and the frames hold the tensors.
        """
        try:
            return work()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        give_back_memory()
        raise OutOfMemory(
            f"The {'machine' if self.device.type == 'cpu' else 'GPU'} ran out of memory. "
            "Ask for a smaller picture, or for fewer at once (n)."
        )
