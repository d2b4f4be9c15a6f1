"""What is compared: a checkpoint, the engine with it, and diffusers' own pipeline with it."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging

from app.checkpoints.catalogue import SHIPPED_FOLDER
from bench.diffusion.weights import random_stable_diffusion
from workers.diffusion.drawing.schedulers import sampler
from workers.diffusion.engine import Engine
from workers.diffusion.request import ImageRequest, Weights


@dataclass(frozen=True, slots=True)
class Stage:
    """One device with one checkpoint as a folder, and requests of a size that suits them."""

    engine: Engine
    plain: StableDiffusionPipeline
    request: ImageRequest  # what the others are made from

    @property
    def is_gpu(self) -> bool:
        return self.engine.device.type == "cuda"

    def asked(self, number: int, **changes) -> ImageRequest:
        """Request `number`: a prompt and a seed of its own, so that nothing is painted from memory."""
        return replace(self.request, prompt=f"a red circle on a blue background, {number}", seed=number, **changes)

    def paint(self, request: ImageRequest) -> bytes:
        return self.engine.paint(request).images[0].content

    def paint_plainly(self, request: ImageRequest) -> bytes:
        """As anybody would who has diffusers and a picture to make; the file is as the engine writes it.

        On the engine's thread, so that both have all cores: OpenMP keeps a team of threads for each thread that asks
        for one, and two teams wait for each other at every operation, also when only one of them has work.
        """
        return self.engine.between_turns(lambda: self._plainly(request))

    def _plainly(self, request: ImageRequest) -> bytes:
        picture = self.plain(
            request.prompt,
            negative_prompt=request.negative_prompt,
            width=request.width,
            height=request.height,
            num_inference_steps=request.steps,
            guidance_scale=request.guidance_scale,
            generator=torch.Generator().manual_seed(request.seed),
        ).images[0]
        file = io.BytesIO()
        picture.save(file, "PNG", compress_level=1)
        return file.getvalue()

    def paint_at_once(self, requests: Sequence[ImageRequest]) -> list[bytes]:
        with ThreadPoolExecutor(len(requests)) as threads:
            return list(threads.map(self.paint, requests))


def open_stage(device: str | None) -> Stage:
    """The checkpoint that ships on a CPU, Stable Diffusion 1.5 of random weights in full size on a GPU."""
    engine = Engine(device)
    is_gpu = engine.device.type == "cuda"
    folder = random_stable_diffusion() if is_gpu else SHIPPED_FOLDER / "atelier-shapes"
    pixels, steps = (512, 30) if is_gpu else (64, 20)
    weights = Weights(folder.name, str(folder), "sd1" if is_gpu else "shapes")
    request = ImageRequest(
        weights,
        negative_prompt="blurry",
        width=pixels,
        height=pixels,
        steps=steps,
        sampler="dpmpp_2m",
        guidance_scale=5.0,
    )
    engine.warm(weights)
    return Stage(engine, engine.between_turns(lambda: plain_pipeline(folder, engine, request)), request)


def plain_pipeline(folder: Path, engine: Engine, request: ImageRequest) -> StableDiffusionPipeline:
    diffusers_logging.set_verbosity_error()
    plain = StableDiffusionPipeline.from_pretrained(folder, dtype=engine.dtype, safety_checker=None).to(engine.device)
    plain.set_progress_bar_config(disable=True)
    how = sampler(request.sampler)
    plain.scheduler = how.kind.from_config(plain.scheduler.config, **how.options)
    return plain


def seconds(work: Callable[..., object], *given: object) -> float:
    began = time.perf_counter()
    work(*given)
    return time.perf_counter() - began


def side_by_side(
    ours: Callable[[int], object], theirs: Callable[[int], object], rounds: int
) -> tuple[float, float, float]:
    """Alternating, each once before it counts: the medians of both in seconds, and the median of the pairs' ratios."""
    pairs = []
    for number in range(rounds + 1):
        order = (theirs, ours) if number % 2 else (ours, theirs)
        took = {work: seconds(work, number) for work in order}
        pairs.append((took[ours], took[theirs]))
    pairs = pairs[1:]
    ratio = statistics.median(ours_s / theirs_s for ours_s, theirs_s in pairs)
    return statistics.median(each[0] for each in pairs), statistics.median(each[1] for each in pairs), ratio


def device_name(stage: Stage) -> str:
    if stage.is_gpu:
        return torch.cuda.get_device_name(stage.engine.device)
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else 'CPU'}, {torch.get_num_threads()} threads"
