"""What a weight is called: in diffusers' modules, and in a single file as Stable Diffusion was published.

A single file numbers the UNet's layers through (`input_blocks.7.0`); diffusers names block and layer
(`down_blocks.2.resnets.0`). The functions here go from diffusers' names to the original ones; a loader reads the
other way by asking for each weight it needs, so there is one table for both directions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

UNET = "model.diffusion_model."
VAE = "first_stage_model."
TEXT_ENCODERS = {  # where a single file keeps its text encoder, or the first and second one of SDXL
    "text_encoder": ("cond_stage_model.", "conditioner.embedders.0."),
    "text_encoder_2": ("conditioner.embedders.1.",),
}

Config = Mapping[str, Any]
Rename = Callable[[str], str]

_UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",  # of SDXL: the pooled prompt and the sizes
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_ATTENTION = {
    **{"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"},
    **{"query": "q", "key": "k", "value": "v", "proj_attn": "proj_out"},  # in folders from before 2023
}
_VAE_OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
_UNET_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
_UNET_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")
_VAE_BLOCK = re.compile(r"(encoder|decoder)\.(?:down|up)_blocks\.(\d+)\.(resnets|downsamplers|upsamplers)\.(\d+)\.(.+)")
_VAE_MIDDLE = re.compile(r"(encoder|decoder)\.mid_block\.(resnets|attentions)\.(\d+)\.(.+)")


def unet_names(config: Config) -> Rename:
    """diffusers' name of a UNet weight → the original one, for a UNet of this `config`."""
    stride = config["layers_per_block"] + 1
    attends = ["CrossAttn" in kind for kind in config["up_block_types"]]

    def rename(name: str) -> str:
        if found := _UNET_BLOCK.fullmatch(name):
            way, block, kind, layer, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
            match kind:
                case "downsamplers":
                    return f"{UNET}input_blocks.{(block + 1) * stride}.0.op.{rest.removeprefix('conv.')}"
                case "upsamplers":
                    return f"{UNET}output_blocks.{(block + 1) * stride - 1}.{2 if attends[block] else 1}.{rest}"
            number = block * stride + layer
            place = f"input_blocks.{number + 1}" if way == "down" else f"output_blocks.{number}"
            return f"{UNET}{place}.0.{_swap(rest, _UNET_RESNET)}" if kind == "resnets" else f"{UNET}{place}.1.{rest}"
        if found := _UNET_MIDDLE.fullmatch(name):
            kind, layer, rest = found[1], int(found[2]), found[3]
            inner = _swap(rest, _UNET_RESNET) if kind == "resnets" else rest
            return f"{UNET}middle_block.{2 * layer if kind == 'resnets' else 1}.{inner}"
        return UNET + _swap(name, _UNET_ENDS)

    return rename


def vae_names(config: Config) -> Rename:
    """diffusers' name of an autoencoder weight → the original one, where the decoder counts its blocks backwards."""
    last = len(config["block_out_channels"]) - 1

    def rename(name: str) -> str:
        if found := _VAE_BLOCK.fullmatch(name):
            side, block, kind, layer, rest = found[1], int(found[2]), found[3], found[4], found[5]
            place = f"encoder.down.{block}" if side == "encoder" else f"decoder.up.{last - block}"
            if kind == "resnets":
                return f"{VAE}{place}.block.{layer}.{rest.replace('conv_shortcut', 'nin_shortcut')}"
            return f"{VAE}{place}.{kind.removesuffix('rs')}.{rest}"
        if found := _VAE_MIDDLE.fullmatch(name):
            side, kind, layer, rest = found[1], found[2], int(found[3]), found[4]
            if kind == "resnets":
                return f"{VAE}{side}.mid.block_{layer + 1}.{rest}"
            return f"{VAE}{side}.mid.attn_1.{_swap(rest, _VAE_ATTENTION)}"
        return VAE + name.replace("conv_norm_out", "norm_out")

    return rename


def old_vae_name(name: str) -> str:
    """diffusers' name of an autoencoder weight as folders from before 2023 have it."""
    stem, _, end = name.rpartition(".")
    for new, old in _VAE_OLD_ATTENTION.items():
        if stem.endswith(f"attentions.0.{new}"):
            return f"{stem.removesuffix(new)}{old}.{end}"
    return name


def text_encoder_names(name: str) -> tuple[str, str]:
    """transformers' name of a CLIP weight → with `text_model.`, as everybody published it, and without.

    transformers 5 has dropped it in one of its two classes, and merges from before 2023 have none either.
    """
    bare = name.removeprefix("text_model.")
    return (bare, bare) if bare.startswith("text_projection") else (f"text_model.{bare}", bare)


def _swap(name: str, table: Mapping[str, str]) -> str:
    stem, _, end = name.rpartition(".")
    return f"{table.get(stem, stem)}.{end}"
