"""Checkpoints of random weights in the shape of each family of Stable Diffusion, with everything smaller.

Each is a diffusers folder, the single file made from it, and the configurations that the single file needs.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from workers.diffusion.checkpoint.export import export_single_file
from workers.diffusion.checkpoint.tokenizer import CONFIGS, tokenizer

FAMILIES = ("sd1", "sd1-inpaint", "sd2", "sd2-inpaint", "sdxl", "sdxl-inpaint")
WIDTH = 32  # of a text encoder
_TEXT = {"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
_UNET = {
    "block_out_channels": [32, 64],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "sample_size": 8,
    "cross_attention_dim": WIDTH,
}
_XL_UNET = _UNET | {
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "transformer_layers_per_block": [1, 2],
    "attention_head_dim": [2, 4],
    "cross_attention_dim": 2 * WIDTH,
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + WIDTH,
}
_VAE = {
    "block_out_channels": [16, 32, 32],
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "layers_per_block": 1,
    "norm_num_groups": 4,
}


def small_configs(family: str, home: Path) -> Path:
    """The configurations of `family` in `home`: as shipped but for the sizes, with the few words of `shapes`."""
    shutil.copytree(CONFIGS / family, home / family)
    (home / family / "tokenizer").mkdir(exist_ok=True)
    shutil.copy(CONFIGS / "shapes/tokenizer/merges.txt.gz", home / family / "tokenizer")
    words = tokenizer("shapes")
    end = {"vocab_size": len(words), "bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": 0}
    heads = {"attention_head_dim": [2, 4]} if family.startswith("sd2") else {"attention_head_dim": 4}
    _change(home / family / "unet/config.json", _XL_UNET if family.startswith("sdxl") else _UNET | heads)
    _change(home / family / "vae/config.json", _VAE)
    for part in (home / family).glob("text_encoder*"):
        _change(part / "config.json", _TEXT | end | {"projection_dim": WIDTH})
    return home


def small_checkpoint(family: str, home: Path) -> SimpleNamespace:
    """`.folder`, `.file` and `.configs` of a random checkpoint of `family`, in `home`."""
    torch.manual_seed(1)
    configs = small_configs(family, home / "configs")
    folder = home / family
    shutil.copytree(configs / family, folder)
    shutil.rmtree(folder / "tokenizer")
    unet = UNet2DConditionModel.from_config(_read(folder / "unet/config.json"))
    with torch.no_grad():
        unet.conv_out.weight.mul_(20)
    unet.save_pretrained(folder / "unet")
    AutoencoderKL.from_config(_read(folder / "vae/config.json")).save_pretrained(folder / "vae")
    for part, kind in (("text_encoder", CLIPTextModel), ("text_encoder_2", CLIPTextModelWithProjection)):
        if (folder / part).is_dir():
            kind(CLIPTextConfig.from_dict(_read(folder / part / "config.json"))).save_pretrained(folder / part)
            tokenizer(family, part.replace("text_encoder", "tokenizer"), configs).save_pretrained(
                folder / part.replace("text_encoder", "tokenizer")
            )
    export_single_file(folder, home / f"{family}.safetensors", family)
    return SimpleNamespace(folder=folder, file=home / f"{family}.safetensors", configs=configs)


def _read(path: Path) -> dict:
    return json.loads(path.read_text())


def _change(path: Path, values: dict) -> None:
    path.write_text(json.dumps(_read(path) | values))
