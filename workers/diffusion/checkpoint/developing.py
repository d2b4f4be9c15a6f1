"""Latents → a picture, which may take its time beside other work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from diffusers import AutoencoderKL

from app.errors import NodeFailed
from workers.diffusion.checkpoint.side import Here, Side
from workers.diffusion.checkpoint.tiling import within_memory
from workers.diffusion.pictures.images import Pixels, eight_bits


class Development:
    """One picture, of latents (1, channels, height, width): a batch would need as many times the memory, where memory
    is scarcest.
    """

    def __init__(self, vae: AutoencoderKL, latents: torch.Tensor, side: Side) -> None:
        """Latents that are no numbers are not decoded where that is known at once."""
        self._latents = latents
        self._side = side
        self._is_full = vae.dtype == torch.float32
        is_known_bad = isinstance(side, Here) and not torch.isfinite(latents).all()
        self._pending = None if is_known_bad else side.start(partial(_decode, vae, latents), [latents])

    @property
    def is_ready(self) -> bool:
        return self._pending is None or self._pending.is_ready

    @property
    def is_sound(self) -> bool:
        """Were the latents numbers? Waits."""
        return self._pending is not None and bool(self._pending.wait()[1][0])

    def pixels(self, find: Callable[[], AutoencoderKL]) -> Pixels:
        """Waits. `find` gives the autoencoder once more: since it began, its modules may have become another's.

        Raises NodeFailed where the autoencoder, or the denoiser before it, gave no numbers.
        """
        if self._pending is None or not self.is_sound:
            raise NodeFailed("The denoiser gave no numbers (NaN): the checkpoint's weights are damaged.")
        picture, sound = self._pending.wait()
        if not sound[1] and not self._is_full:
            vae = find()
            self._side.finish()
            vae.to(torch.float32)  # some overflow in half precision; this one stays in full from now on
            picture, sound = Here().start(partial(_decode, vae, self._latents), []).wait()
        if not sound[1]:
            raise NodeFailed("The autoencoder gave no numbers (NaN): the checkpoint's VAE is damaged.")
        pixels: Pixels = picture.numpy()
        return pixels


def _decode(vae: AutoencoderKL, latents: torch.Tensor) -> Sequence[torch.Tensor]:
    """The picture in bytes, and whether the latents were numbers, and what the autoencoder made of them."""
    picture = _decoded(vae, latents / vae.config.scaling_factor)
    sound = torch.stack([torch.isfinite(each).all() for each in (latents, picture)])
    return eight_bits(picture.float() / 2 + 0.5), sound


def _decoded(vae: AutoencoderKL, latents: torch.Tensor) -> torch.Tensor:
    pixels_per_latent = 2 ** (len(vae.config.block_out_channels) - 1)

    def decode() -> torch.Tensor:
        picture: torch.Tensor = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
        return picture

    return within_memory(vae, latents.shape[-2] * latents.shape[-1] * pixels_per_latent**2, decode)
