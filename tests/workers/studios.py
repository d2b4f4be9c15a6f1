"""A studio with one of everything that can be put on the checkpoint that ships."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import ControlNetModel

from bench.gallery import made
from bench.studio import Studio
from workers.diffusion.engine import Engine


def furnished(folder: Path, engine: Engine) -> Studio:
    """With a LoRA, a textual inversion, an autoencoder, an upscaler, and a ControlNet that was never trained."""
    parts = made.Shipped()
    made.make_lora(parts, folder / "loras/ink.safetensors", rank=1)
    made.make_inversion(parts, folder / "embeddings/sheriff.safetensors", "yellow star")
    made.make_autoencoder(parts, folder / "vae/sepia")
    made.make_upscaler(folder / "upscalers/by-hand.safetensors")
    net = ControlNetModel.from_unet(parts.unet, conditioning_embedding_out_channels=(16, 32, 64))
    torch.nn.init.normal_(net.controlnet_mid_block.weight, std=1.0)
    net.save_pretrained(folder / "controlnet/canny")
    return Studio(folder, engine)
