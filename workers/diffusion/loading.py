"""A checkpoint's files → its modules, ready to paint. Nothing is asked of a network, nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from app.errors import CheckpointUnavailable
from workers.diffusion import names
from workers.diffusion.memory import is_out_of_memory
from workers.diffusion.request import Weights
from workers.diffusion.tokenizer import CONFIGS, tokenizer

Parts = tuple[CLIPTextModel, UNet2DConditionModel, AutoencoderKL]


@dataclass(slots=True)
class Components:
    """The modules of one checkpoint on one device. `schedule` is the noise schedule that every sampler starts from."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    schedule: dict[str, Any]
    device: torch.device
    dtype: torch.dtype

    @property
    def pixels_per_latent(self) -> int:
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))


def load(weights: Weights, device: torch.device, dtype: torch.dtype) -> Components:
    """Loads a diffusers folder or a single `.safetensors` file.

    Raises CheckpointUnavailable when the files can't be read or hold other weights than the family's.
    """
    path, family = Path(weights.path), weights.family
    with _explained(path):
        parts = _from_folder(path, dtype) if path.is_dir() else _from_file(path, family, dtype)
        text_encoder, unet, vae = (part.to(device).eval().requires_grad_(False) for part in parts)
        schedule = _schedule(path, family)
    words, rows = tokenizer(family), text_encoder.config.vocab_size
    if len(words) != rows:
        raise CheckpointUnavailable(
            f"The text encoder of {path.name} knows {rows} tokens, {family} has {len(words)}: it can't read prompts.",
            params="model_name",
        )
    return Components(words, text_encoder, unet, vae, schedule, device, dtype)


def weight_files(folder: Path) -> list[Path]:
    """The weights of one component's folder: those in full precision where both are there. Raises OSError for none."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder.name}/ has no .safetensors file")
    return [file for file in files if not file.stem.endswith(".fp16")] or files


def _from_folder(path: Path, dtype: torch.dtype) -> Parts:
    """As the libraries load it, but for one thing: they would only warn of missing weights, and make some up."""
    parts = []
    for kind, name in ((CLIPTextModel, "text_encoder"), (UNet2DConditionModel, "unet"), (AutoencoderKL, "vae")):
        part, info = kind.from_pretrained(
            path / name,
            variant="fp16" if weight_files(path / name)[0].stem.endswith(".fp16") else None,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
        if info["missing_keys"]:
            raise ValueError(f"{name}/ lacks weights, such as {min(info['missing_keys'])}")
        parts.append(part)
    return parts[0], parts[1], parts[2]


def _from_file(path: Path, family: str, dtype: torch.dtype) -> Parts:
    unet_config, vae_config = (_config(CONFIGS / family / part / "config.json") for part in ("unet", "vae"))
    with init_empty_weights(include_buffers=False):
        text_encoder = CLIPTextModel(CLIPTextConfig(**_config(CONFIGS / family / "text_encoder/config.json")))
        unet = UNet2DConditionModel.from_config(unet_config)
        vae = AutoencoderKL.from_config(vae_config)
    with safe_open(path, framework="pt") as file:
        old = names.text_encoder_name("final_layer_norm.weight") not in frozenset(file.keys())
        text_name = names.old_text_encoder_name if old else names.text_encoder_name
        for module, rename in (
            (unet, names.unet_names(unet_config)),
            (vae, names.vae_names(vae_config)),
            (text_encoder, text_name),
        ):
            _fill(module, rename, file.get_tensor, dtype)
    return text_encoder, unet, vae


def _fill(module: nn.Module, rename: names.Rename, read: Callable[[str], torch.Tensor], dtype: torch.dtype) -> None:
    """Gives the empty `module` its weights, one at a time, as copies: the file may be replaced while they are in use.

    Some of a VAE's attention weights are 1 x 1 convolutions in files and matrices in diffusers, hence the reshaping.
    """
    weights = {
        name: read(rename(name)).to(dtype, copy=True).reshape(empty.shape)
        for name, empty in module.state_dict().items()
    }
    module.load_state_dict(weights, assign=True)


def _schedule(path: Path, family: str) -> dict[str, Any]:
    """The family's noise schedule. Of a folder's own, only what its model predicts counts, and not how it spaces the
    timesteps: a folder and the single file made from it paint the same picture.
    """
    schedule = _config(CONFIGS / family / "scheduler/scheduler_config.json")
    own = path / "scheduler/scheduler_config.json"
    if own.is_file():
        schedule["prediction_type"] = _config(own).get("prediction_type", "epsilon")
    return schedule


def _config(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(path.read_text())
    return config


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns what the libraries raise for bad files into one sentence; being out of memory is no fault of the file."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if is_out_of_memory(error):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise CheckpointUnavailable(
            f"The checkpoint {path.name} could not be loaded ({reason}). Download it again, or name another.",
            params="model_name",
        ) from error
