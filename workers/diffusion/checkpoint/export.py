"""A diffusers folder → one `.safetensors` file with the original names, as other image servers read it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from workers.diffusion.checkpoint import names
from workers.diffusion.checkpoint.open_clip import to_open_clip
from workers.diffusion.checkpoint.parts import config_of
from workers.diffusion.checkpoint.weight_files import weight_files

OPEN_CLIP = ("sd2", "sd2-inpaint")  # families whose first text encoder is OpenCLIP's


def export_single_file(folder: Path, file: Path, family: str = "sd1") -> None:
    """Writes the checkpoint of `folder` into `file`, in the precision it has. Both paint the same pictures exactly."""
    unet, vae = (_weights_of(folder / part) for part in ("unet", "vae"))
    unet_name = names.unet_names(config_of(folder / "unet/config.json"))
    vae_name = names.vae_names(config_of(folder / "vae/config.json"))
    weights = {unet_name(name): weight for name, weight in unet.items()}
    weights |= {vae_name(name): _as_convolution(vae_name(name), weight) for name, weight in vae.items()}
    two = (folder / "text_encoder_2").is_dir()
    first = _weights_of(folder / "text_encoder")
    home = names.TEXT_ENCODERS["text_encoder"][two]
    weights |= _open_clip(home, first) if family in OPEN_CLIP else _clip(home, first)
    if two:
        weights |= _open_clip(names.TEXT_ENCODERS["text_encoder_2"][0], _weights_of(folder / "text_encoder_2"))
    save_file({name: weight.contiguous() for name, weight in weights.items()}, file, metadata={"format": "pt"})


def _weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: weight for source in weight_files(folder) for name, weight in load_file(source).items()}


def _clip(home: str, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{home}transformer.{names.text_encoder_names(name)[0]}": weight for name, weight in weights.items()}


def _open_clip(home: str, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{home}model.{name}": weight for name, weight in to_open_clip(weights).items()}


def _as_convolution(name: str, weight: torch.Tensor) -> torch.Tensor:
    """The autoencoder's attention was made of 1 x 1 convolutions: (out, in) becomes (out, in, 1, 1)."""
    matrix = ".mid.attn_1." in name and weight.dim() == 2
    return weight[:, :, None, None] if matrix else weight
