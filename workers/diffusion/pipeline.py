"""One checkpoint at work: encode the prompt → denoise → decode."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray

from app.errors import NodeFailed
from workers.diffusion.denoiser import Drawing, Guidance, denoise
from workers.diffusion.loading import Components
from workers.diffusion.request import ImageRequest, Progress
from workers.diffusion.schedulers import sampler
from workers.diffusion.tokenizer import LENGTH, clean

REMEMBERED_PROMPTS = 64  # embeddings, 118 kB each for Stable Diffusion 1 in half precision

Pixels = NDArray[np.uint8]


class Pipeline:
    """Paints with the modules of one checkpoint. Not for two threads at once: tokenizer and modules hold state."""

    def __init__(self, components: Components) -> None:
        self.components = components
        self._embeddings: OrderedDict[str, torch.Tensor] = OrderedDict()

    @torch.inference_mode()
    def paint(
        self, request: ImageRequest, on_progress: Callable[[Progress], None], should_stop: Callable[[], bool]
    ) -> list[Pixels]:
        """The request's `n` pictures, each uint8 of (height, width, 3).

        Raises NodeFailed for values that can't be painted and for weights that give no numbers; StopRequested.
        """
        self._check(request)
        drawings = [self._drawing(request, request.seed + i) for i in range(request.n)]
        denoise(self.components.unet, drawings, self._guidance(request), _pace(on_progress), should_stop)
        return [self._decode(each.latents) for each in drawings]

    def _check(self, request: ImageRequest) -> None:
        grid = self.components.pixels_per_latent
        if request.width % grid or request.height % grid or min(request.width, request.height) < grid:
            raise NodeFailed(
                f"A picture of {request.width} x {request.height} can't be painted: "
                f"width and height must be multiples of {grid}."
            )
        if request.steps < 1 or request.n < 1:
            raise NodeFailed("There must be at least one step and one picture.")
        if not 0 <= request.seed <= 2**63 - request.n:
            raise NodeFailed(f"The seed {request.seed} is out of range: it must be between 0 and 2^63 - n.")

    def _drawing(self, request: ImageRequest, seed: int) -> Drawing:
        """Noise from a generator on the CPU, so that a seed means the same picture on every device."""
        parts = self.components
        height, width = request.height // parts.pixels_per_latent, request.width // parts.pixels_per_latent
        how = sampler(request.sampler)
        scheduler = how.scheduler(parts.schedule, request.steps)
        generator = torch.Generator().manual_seed(seed)
        shape = (1, parts.vae.config.latent_channels, height, width)
        noise: torch.Tensor = randn_tensor(shape, generator=generator, device=parts.device, dtype=parts.dtype)
        extra = {"generator": generator} if how.takes_generator else {}
        return Drawing(noise * scheduler.init_noise_sigma, scheduler, extra)

    def _guidance(self, request: ImageRequest) -> Guidance:
        guided = request.guidance_scale > 1
        negative = self._embed(request.negative_prompt) if guided else None
        return Guidance(self._embed(request.prompt), negative, request.guidance_scale)

    def _embed(self, prompt: str) -> torch.Tensor:
        """The prompt as (1, 77, width); words beyond 77 tokens are not read. The last few prompts are remembered."""
        embedding = self._embeddings.pop(prompt, None)
        if embedding is None:
            parts = self.components
            words = parts.tokenizers[0](
                clean(prompt), padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
            )
            embedding = parts.text_encoders[0](words.input_ids.to(parts.device))[0]
        self._embeddings[prompt] = embedding
        if len(self._embeddings) > REMEMBERED_PROMPTS:
            self._embeddings.popitem(last=False)
        return embedding

    def _decode(self, latents: torch.Tensor) -> Pixels:
        """One picture at a time: a batch would need as many times the memory, where memory is scarcest."""
        if not torch.isfinite(latents).all():
            raise NodeFailed("The denoiser gave no numbers (NaN): the checkpoint's weights are damaged.")
        vae = self.components.vae
        latents = latents / vae.config.scaling_factor
        picture = self._pixels(vae, latents)
        if not torch.isfinite(picture).all() and vae.dtype != torch.float32:
            vae.to(torch.float32)  # some autoencoders overflow in half precision; this one stays in full from now on
            picture = self._pixels(vae, latents)
        if not torch.isfinite(picture).all():
            raise NodeFailed("The autoencoder gave no numbers (NaN): the checkpoint's VAE is damaged.")
        unit = (picture[0].float() / 2 + 0.5).clamp(0, 1).permute(1, 2, 0)
        return (unit * 255).round().to(torch.uint8).cpu().numpy()

    @staticmethod
    def _pixels(vae: AutoencoderKL, latents: torch.Tensor) -> torch.Tensor:
        picture: torch.Tensor = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
        return picture


def _pace(on_progress: Callable[[Progress], None]) -> Callable[[int, int], None]:
    """Steps → Progress, with the time left at the mean pace so far."""
    start = time.monotonic()

    def on_step(done: int, of: int) -> None:
        mean_s = (time.monotonic() - start) / done
        on_progress(Progress(done, of, mean_s * (of - done)))

    return on_step
