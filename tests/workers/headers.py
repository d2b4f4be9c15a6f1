"""Files that have the header of a checkpoint or of what goes with one, and a hole instead of gigabytes of weights."""

from __future__ import annotations

import json
import math
from pathlib import Path

P = "model.diffusion_model."
TO_K = "transformer_blocks.0.attn2.to_k.weight"
TEXT = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"

Shapes = dict[str, list[int]]


def write(path: Path, tensors: Shapes, cut: int = 0, said: dict[str, str] | None = None) -> Path:
    """A .safetensors file with these shapes, `cut` bytes short, with texts that its maker wrote into it."""
    end, header = 0, {"__metadata__": {"format": "pt"} | (said or {})}
    for name, shape in tensors.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end - cut)
    return path


def sd(context: int = 768, channels: int = 4, block: int = 1, words: int = 49408) -> Shapes:
    """Stable Diffusion 1 unless the widths say otherwise."""
    return {
        f"{P}input_blocks.0.0.weight": [320, channels, 3, 3],
        f"{P}input_blocks.{block}.1.{TO_K}": [320, context],
        TEXT: [words, 768],
        "first_stage_model.decoder.conv_in.weight": [512, 4, 3, 3],
        "first_stage_model.encoder.conv_in.weight": [128, 3, 3, 3],
    }


def sd2(channels: int = 4) -> Shapes:
    shapes = sd(1024, channels)
    del shapes[TEXT]
    return shapes | {"cond_stage_model.model.token_embedding.weight": [49408, 1024]}


def sdxl(channels: int = 4) -> Shapes:
    shapes = sd(2048, channels, block=4)
    del shapes[TEXT]
    return shapes | {
        f"{P}middle_block.1.transformer_blocks.9.attn2.to_k.weight": [1280, 2048],
        f"{P}label_emb.0.0.weight": [1280, 2816],
        "conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight": [49408, 768],
        "conditioner.embedders.1.model.token_embedding.weight": [49408, 1280],
    }


def without(name: str, shapes: Shapes | None = None) -> Shapes:
    return {key: shape for key, shape in (shapes or sd()).items() if name not in key}


def diffusers_folder(path: Path, *, kind: str = "StableDiffusionPipeline", **unet: object) -> Path:
    configs = {
        "unet": {"in_channels": 4, "cross_attention_dim": 768, "sample_size": 96} | unet,
        "vae": {"block_out_channels": [128, 256, 512, 512]},
        "text_encoder": {"vocab_size": 49408},
    }
    if "XL" in kind:
        configs["text_encoder_2"] = {"vocab_size": 49408}
    for part, config in configs.items():
        (path / part).mkdir(parents=True)
        (path / part / "config.json").write_text(json.dumps(config))
        write(path / part / "model.safetensors", {"weight": [1]})
    (path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    return path
