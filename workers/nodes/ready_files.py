"""Weights that PyTorch saved are converted before the engine is asked for them: it loads .safetensors files alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from app import clock
from app.checkpoints.conversion import Conversions, OnProgress
from app.domain.event import Tick
from workers.diffusion.request import EnlargeRequest, ImageRequest, Weights
from workers.run_step import Job, StepHalted

Request = TypeVar("Request", ImageRequest, EnlargeRequest)

_BUILT_IN = frozenset({"", "latent", "lanczos"})


class ReadyFiles:
    """Puts the paths of files that can be loaded into requests. The first request for a file converts it."""

    def __init__(self, conversions: Conversions) -> None:
        self._conversions = conversions

    def of(self, request: Request, job: Job) -> Request:
        """The same request with other paths, where it must; the step shows its life meanwhile.

        Raises CheckpointUnavailable, Unavailable, StepHalted.
        """
        began_s = clock.monotonic()
        steps = request.steps if isinstance(request, ImageRequest) else 1
        ready = self._ready(_signs(job, steps, began_s))
        found = _with_upscaler(_with_paths(request, ready) if isinstance(request, ImageRequest) else request, ready)
        if found != request:
            job.watch.load_s += clock.monotonic() - began_s
        return found

    def weights(self, weights: Weights) -> Weights:
        """The same for a checkpoint that nobody has asked for yet."""
        return _weights(weights, self._ready(lambda done, of: None))

    def _ready(self, on_progress: OnProgress) -> Callable[[str], str]:
        def ready(path: str) -> str:
            return path if path in _BUILT_IN else str(self._conversions.ready(Path(path), on_progress))

        return ready


def _signs(job: Job, steps: int, began_s: float) -> OnProgress:
    """A step that waits for its weights has done none of its work, but it may say how long that will take."""

    def on_progress(done: int, of: int) -> None:
        if job.is_halted():
            raise StepHalted
        if done:
            left_s = (clock.monotonic() - began_s) / done * (of - done)
            job.tick(Tick(job.step.run_id, job.step.id, job.step.node_id, 0, steps, left_s))
        else:
            job.alive()

    return on_progress


def _with_paths(request: ImageRequest, ready: Callable[[str], str]) -> ImageRequest:
    return replace(
        request,
        weights=_weights(request.weights, ready),
        loras=tuple(replace(lora, path=ready(lora.path)) for lora in request.loras),
        embeddings=tuple((word, ready(path)) for word, path in request.embeddings),
        controls=tuple(replace(control, path=ready(control.path)) for control in request.controls),
        preview_path=ready(request.preview_path),
        hires=replace(request.hires, upscaler=ready(request.hires.upscaler)) if request.hires else None,
    )


def _with_upscaler(request: Request, ready: Callable[[str], str]) -> Request:
    if request.enlarge is None:
        return request
    return replace(request, enlarge=replace(request.enlarge, upscaler=ready(request.enlarge.upscaler)))


def _weights(weights: Weights, ready: Callable[[str], str]) -> Weights:
    return replace(
        weights,
        path=ready(weights.path),
        vae_path=ready(weights.vae_path),
        text_encoder_path=ready(weights.text_encoder_path),
    )
