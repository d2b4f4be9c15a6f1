"""A diffusers folder → one `.safetensors` file with the original names, as other image servers read it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from workers.diffusion import names
from workers.diffusion.loading import weight_files


def export_single_file(folder: Path, file: Path) -> None:
    """Writes the checkpoint of `folder` into `file`, in the precision it has. Both paint the same pictures exactly."""
    renames = {
        "unet": names.unet_names(_config(folder / "unet")),
        "vae": names.vae_names(_config(folder / "vae")),
        "text_encoder": names.text_encoder_name,
    }
    weights = {
        rename(name): _as_convolution(rename(name), weight).contiguous()
        for part, rename in renames.items()
        for source in weight_files(folder / part)
        for name, weight in load_file(source).items()
    }
    save_file(weights, file, metadata={"format": "pt"})


def _as_convolution(name: str, weight: torch.Tensor) -> torch.Tensor:
    """The autoencoder's attention was made of 1 x 1 convolutions: (out, in) becomes (out, in, 1, 1)."""
    matrix = ".mid.attn_1." in name and weight.dim() == 2
    return weight[:, :, None, None] if matrix else weight


def _config(folder: Path) -> names.Config:
    config: names.Config = json.loads((folder / "config.json").read_text())
    return config
