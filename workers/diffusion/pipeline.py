"""One checkpoint at work: words → conditioning, latents → pixels, and the changes that its weights wear."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL

from app.errors import NodeFailed
from workers.diffusion.conditioning import Conditioning
from workers.diffusion.dressing import Dressing
from workers.diffusion.images import Pixels
from workers.diffusion.loading import Components
from workers.diffusion.prompts.encoder import Prompt, PromptEncoder
from workers.diffusion.request import ImageRequest, Lora


class Pipeline:
    """The modules of one checkpoint. For the engine's thread alone: tokenizer and modules hold state."""

    def __init__(self, components: Components) -> None:
        self.components = components
        self._dressing = Dressing(components.unet, components.text_encoders)
        self._prompts = PromptEncoder(components.tokenizers, components.text_encoders, self._dressing)

    @property
    def held_bytes(self) -> int:
        """Memory for more than its modules: prompts as numbers, and weights as LoRAs change them."""
        return self._prompts.bytes + self._dressing.bytes

    def give_back(self) -> None:
        """Lets go of `held_bytes`. To be called, too, before the modules get other weights."""
        self._prompts.forget()
        self._dressing.forget()

    def wear(self, loras: tuple[Lora, ...]) -> None:
        """From now on the UNet has these changes and no others. Raises CheckpointUnavailable."""
        self._dressing.wear(loras)

    def encode(self, prompt: str, request: ImageRequest, *, negative: bool = False) -> Conditioning:
        """The prompt, as `request` wants it read: with its embeddings, and by text encoders that wear its LoRAs.

        Raises CheckpointUnavailable for a LoRA or an embedding that can't be used, NodeFailed for a prompt too long.
        """
        self._dressing.check(request.loras)
        return self._prompts.encode(Prompt(prompt, request.clip_skip, request.embeddings, negative, request.loras))

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
