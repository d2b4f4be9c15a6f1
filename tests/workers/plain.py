"""A request as diffusers paints it by itself: what the engine's pictures are measured by."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline

from workers.diffusion.request import ImageRequest


def painted_by_diffusers(pipeline: DiffusionPipeline, request: ImageRequest, **more: Any) -> np.ndarray:
    """The pixels, from 0 to 255, of the request's first picture. `more`: the pipeline's own, as its size."""
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance_scale,
        generator=torch.Generator().manual_seed(request.seed),
        output_type="np",
        **more,
    )
    pixels: np.ndarray = (made.images[0] * 255).round().astype(int)
    return pixels
