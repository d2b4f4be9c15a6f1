"""One checkpoint at work: words → conditioning, latents → pixels, and the changes that its weights wear."""

from __future__ import annotations

from collections import OrderedDict

import torch
from diffusers import AutoencoderKL

from app.errors import NodeFailed
from workers.diffusion.conditioning import Conditioning
from workers.diffusion.images import Pixels
from workers.diffusion.loading import Components
from workers.diffusion.request import ImageRequest, Lora
from workers.diffusion.tokenizer import LENGTH, clean

REMEMBERED_PROMPTS = 64  # embeddings, 118 kB each for Stable Diffusion 1 in half precision


class Pipeline:
    """The modules of one checkpoint. For the engine's thread alone: tokenizer and modules hold state."""

    def __init__(self, components: Components) -> None:
        self.components = components
        self._conditionings: OrderedDict[str, Conditioning] = OrderedDict()

    def wear(self, loras: tuple[Lora, ...]) -> None:
        """From now on the modules have these changes and no others."""
        if loras:
            raise NodeFailed("This engine has no LoRAs yet.")

    def encode(self, prompt: str, request: ImageRequest) -> Conditioning:
        """The prompt, as `request` wants it read. The last few are remembered."""
        conditioning = self._conditionings.pop(prompt, None)
        if conditioning is None:
            parts = self.components
            words = parts.tokenizer(
                clean(prompt), padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
            )
            conditioning = Conditioning(parts.text_encoder(words.input_ids.to(parts.device))[0])
        self._conditionings[prompt] = conditioning
        if len(self._conditionings) > REMEMBERED_PROMPTS:
            self._conditionings.popitem(last=False)
        return conditioning

    def to_pixels(self, latents: torch.Tensor) -> Pixels:
        """One picture, of latents (1, channels, height, width): a batch would need as many times the memory, where
        memory is scarcest. Raises NodeFailed for what is no number.
        """
        if not torch.isfinite(latents).all():
            raise NodeFailed("The denoiser gave no numbers (NaN): the checkpoint's weights are damaged.")
        vae = self.components.vae
        latents = latents / vae.config.scaling_factor
        picture = _decoded(vae, latents)
        if not torch.isfinite(picture).all() and vae.dtype != torch.float32:
            vae.to(torch.float32)  # some autoencoders overflow in half precision; this one stays in full from now on
            picture = _decoded(vae, latents)
        if not torch.isfinite(picture).all():
            raise NodeFailed("The autoencoder gave no numbers (NaN): the checkpoint's VAE is damaged.")
        unit = (picture[0].float() / 2 + 0.5).clamp(0, 1).permute(1, 2, 0)
        return (unit * 255).round().to(torch.uint8).cpu().numpy()


def _decoded(vae: AutoencoderKL, latents: torch.Tensor) -> torch.Tensor:
    picture: torch.Tensor = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
    return picture
