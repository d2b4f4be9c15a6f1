"""One checkpoint at work: words → conditioning, latents → pixels, and the changes that its weights wear."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, ControlNetModel
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from app.errors import NodeFailed
from workers.diffusion.checkpoint.developing import Development
from workers.diffusion.checkpoint.loading import Components
from workers.diffusion.checkpoint.side import Here, Side
from workers.diffusion.checkpoint.speed import RecordedUNet, recorded_unet
from workers.diffusion.checkpoint.tiling import within_memory
from workers.diffusion.drawing.conditioning import Conditioning
from workers.diffusion.drawing.controls import ControlNets
from workers.diffusion.loras.dressing import Dressing
from workers.diffusion.pictures.images import Pixels
from workers.diffusion.prompts.encoder import Prompt, PromptEncoder
from workers.diffusion.request import ImageRequest, Lora


@dataclass(frozen=True, slots=True)
class Encoded:
    """A picture as the autoencoder understands it: it says how sure it is, and each drawing draws its own latents."""

    distribution: DiagonalGaussianDistribution
    scale: float
    dtype: torch.dtype

    def sample(self, generator: torch.Generator) -> torch.Tensor:
        """(1, channels, height, width), scaled as the UNet sees them."""
        latents: torch.Tensor = self.distribution.sample(generator) * self.scale
        return latents.to(self.dtype)


class Pipeline:
    """The modules of one checkpoint. For the engine's thread alone: tokenizer and modules hold state."""

    def __init__(
        self,
        components: Components,
        before: Pipeline | None = None,
        *,
        side: Side | None = None,
        records: bool = True,
    ) -> None:
        """Where the UNet is that of the pipeline `before`, with other numbers, what was recorded of it still holds.

        `records`: whether UNet calls are, on a device that can do that.
        """
        self.components = components
        self._side = side or Here()
        self._controls = ControlNets(components.unet)
        self._dressing = Dressing(components.unet, components.text_encoders)
        self._prompts = PromptEncoder(components.tokenizers, components.text_encoders, self._dressing)
        self._recorded: RecordedUNet | None = None
        if before is not None and before.components.unet is components.unet:
            self._recorded = before._recorded
        elif records:
            self._recorded = recorded_unet(components)

    @property
    def unet(self) -> Callable[..., tuple[torch.Tensor]]:
        """What a UNet call goes to: the module, or on a GPU its recordings."""
        plain: Callable[..., tuple[torch.Tensor]] = self.components.unet
        return self._recorded or plain

    @property
    def held_bytes(self) -> int:
        """Memory for more than its modules: prompts as numbers, weights as LoRAs change them, and ControlNets."""
        return self._prompts.bytes + self._dressing.bytes + self._controls.bytes

    def give_back(self, *, recordings: bool = False) -> None:
        """Lets go of `held_bytes`. To be called, too, before the modules get other weights.

        Waits for pictures that are being developed. Recordings are good for other weights at the same place; they go
        where memory has run out.
        """
        self._side.finish()
        self._prompts.forget()
        self._dressing.forget()
        self._controls.forget()
        if self._recorded and recordings:
            self._recorded.forget()

    def wear(self, loras: tuple[Lora, ...]) -> None:
        """From now on the UNet has these changes and no others. Raises CheckpointUnavailable."""
        self._dressing.wear(loras)

    def encode(self, prompt: str, request: ImageRequest, *, negative: bool = False) -> Conditioning:
        """The prompt, as `request` wants it read: with its embeddings, and by text encoders that wear its LoRAs.

        Raises CheckpointUnavailable for a LoRA or an embedding that can't be used, NodeFailed for a prompt too long.
        """
        self._dressing.check(request.loras)
        wanted = Prompt(
            prompt, request.clip_skip, request.embeddings, negative, request.loras, repeats=request.exclusive
        )
        return self._prompts.encode(wanted)

    def control_net(self, path: str) -> ControlNetModel:
        """Raises CheckpointUnavailable."""
        return self._controls.net(path)

    def to_latents(self, picture: torch.Tensor) -> Encoded:
        """A picture of (1, 3, height, width) from -1 to 1. Raises NodeFailed where the autoencoder gives no numbers."""
        parts = self.components
        encoded = _encoded(parts.vae, picture.to(parts.device))
        if not torch.isfinite(encoded.mean).all() and parts.vae.dtype != torch.float32:
            self._side.finish()
            parts.vae.to(torch.float32)  # as where it decodes
            encoded = _encoded(parts.vae, picture.to(parts.device))
        if not torch.isfinite(encoded.mean).all():
            raise NodeFailed("The autoencoder gave no numbers (NaN): the checkpoint's VAE is damaged.")
        return Encoded(encoded, parts.vae.config.scaling_factor, parts.dtype)

    def develop(self, latents: torch.Tensor) -> Development:
        """A picture of latents, beside other work where the device can do that."""
        return Development(self.components.vae, latents, self._side)

    def to_pixels(self, latents: torch.Tensor) -> Pixels:
        """The same, waited for. Raises NodeFailed for what is no number."""
        return self.develop(latents).pixels(lambda: self.components.vae)


def _encoded(vae: AutoencoderKL, picture: torch.Tensor) -> DiagonalGaussianDistribution:
    def encode() -> DiagonalGaussianDistribution:
        return vae.encode(picture.to(vae.dtype)).latent_dist

    return within_memory(vae, picture.shape[-2] * picture.shape[-1], encode)
