"""Tensor names and shapes → what kind of weights a file holds.

By positive evidence only: a file is a checkpoint because the parts of one are there, never because nothing else
fitted. Each sentence completes one that begins with the file's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from app.checkpoints.checkpoint import FAMILIES, SD1, Family
from app.checkpoints.header import Shapes

UNET = "model.diffusion_model."
FIRST_LAYER = UNET + "input_blocks.0.0.weight"
CLIP_WORDS = 49408
TOKEN_EMBEDDINGS = (
    "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
    "cond_stage_model.transformer.embeddings.token_embedding.weight",
)
VAE_LAYER = "first_stage_model.decoder.conv_in.weight"
_INSTEAD = "Atelier paints with Stable Diffusion 1 checkpoints; use one of those."

_CHANNELS = {
    9: "an inpainting checkpoint (9 input channels)",
    8: "an instruct-pix2pix checkpoint (8 input channels)",
    7: "an upscaler checkpoint (7 input channels)",
    5: "a depth-guided checkpoint (5 input channels)",
}
_CONTEXTS = {
    1024: "a Stable Diffusion 2 checkpoint",
    1280: "an SDXL refiner",
    2048: "an SDXL checkpoint",
}


class NotUsable(Exception):
    """The weights are of a kind that Atelier can't paint with. Its text says what they are and what to do."""


def family_of(shapes: Shapes) -> Family:
    """The family of a single file's tensors. Raises NotUsable."""
    for says, belongs in _OTHER_KINDS:
        if belongs(shapes):
            raise NotUsable(says)
    if FIRST_LAYER not in shapes:
        raise NotUsable(f"holds no Stable Diffusion UNet and nothing else that Atelier knows. {_INSTEAD}")
    family = family_of_unet(shapes[FIRST_LAYER][1], _context(shapes))
    words = next((shapes[name][0] for name in TOKEN_EMBEDDINGS if name in shapes), None)
    if words is None:
        raise NotUsable("has no text encoder in it. Get the full version of this checkpoint, with its text encoder.")
    check_words(family, words)
    if VAE_LAYER not in shapes:
        raise NotUsable("has no VAE in it. Get the full version of this checkpoint, with its VAE.")
    return family


def family_of_unet(channels: int, context: int | None) -> Family:
    """The family of a UNet that takes `channels` and reads text embeddings `context` wide. Raises NotUsable."""
    family = next((each for each in FAMILIES if each.context == context), None)
    if channels == 4 and family:
        return family
    if context in _CONTEXTS and channels in (4, 9):
        raise NotUsable(f"is {_CONTEXTS[context]}. {_INSTEAD}")
    if channels != 4:
        raise NotUsable(f"is {_CHANNELS.get(channels, f'a checkpoint with {channels} input channels')}. {_INSTEAD}")
    raise NotUsable(f"is a diffusion checkpoint of an unknown kind (text embeddings {context} wide). {_INSTEAD}")


def check_words(family: Family, words: int) -> None:
    """Raises NotUsable where the text encoder was given tokens that the family's tokenizer has not."""
    if family is SD1 and words != CLIP_WORDS:
        raise NotUsable(f"has a text encoder of {words:,} tokens instead of CLIP's {CLIP_WORDS:,}. {_INSTEAD}")


def _context(shapes: Shapes) -> int | None:
    """The width that the first cross-attention reads; it is in input block 1 of SD 1, 3 of ours, 4 of SDXL."""
    names = (f"{UNET}input_blocks.{block}.1.transformer_blocks.0.attn2.to_k.weight" for block in range(1, 12))
    return next((shapes[name][1] for name in names if name in shapes), None)


def _with(*parts: str) -> Callable[[Iterable[str]], bool]:
    """Is there a tensor with one of `parts` in its name?"""
    return lambda names: any(part in name for name in names for part in parts)


def _with_all(*names: str) -> Callable[[Iterable[str]], bool]:
    return lambda given: set(names) <= set(given)


_OTHER_KINDS: tuple[tuple[str, Callable[[Shapes], bool]], ...] = (
    (
        f"is a LoRA: it changes a checkpoint and is none itself. {_INSTEAD}",
        _with("lora_down", "lora_up", "lora_A", "lora_B", "lora.down", ".hada_w1", ".lokr_w"),
    ),
    (
        f"is a textual inversion: it teaches a checkpoint a word and is none itself. {_INSTEAD}",
        lambda shapes: "emb_params" in shapes or "string_to_param.*" in shapes or set(shapes) == {"clip_l", "clip_g"},
    ),
    (
        f"is a ControlNet: it steers a checkpoint and is none itself. {_INSTEAD}",
        _with("control_model.", "controlnet_cond_embedding", "controlnet_blocks", "input_hint_block"),
    ),
    (f"is a Stable Diffusion 3 checkpoint. {_INSTEAD}", _with("joint_blocks.0.")),
    (f"is a Flux checkpoint. {_INSTEAD}", _with("double_blocks.0.img_attn", "single_transformer_blocks.0.")),
    (
        "is a UNet alone, with diffusers' names. Put the whole diffusers folder here, or the single-file version.",
        _with_all("conv_in.weight", "time_embedding.linear_1.weight"),
    ),
    (
        f"is a VAE alone: it turns latents into pixels and can't paint by itself. {_INSTEAD}",
        lambda shapes: (
            {"encoder.conv_in.weight", "decoder.conv_in.weight"} <= set(shapes)
            or (VAE_LAYER in shapes and FIRST_LAYER not in shapes)
        ),
    ),
    (
        f"is an upscaler (ESRGAN): it enlarges pictures and can't paint them. {_INSTEAD}",
        lambda shapes: "conv_first.weight" in shapes or "model.0.weight" in shapes,
    ),
    (
        f"is a text encoder alone. {_INSTEAD}",
        lambda shapes: _with("embeddings.token_embedding.weight")(shapes) and FIRST_LAYER not in shapes,
    ),
)
