"""For which family of checkpoints an adapter is, by the widths of its tensors or by what its maker wrote into it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from app.checkpoints.checkpoint import FAMILIES
from app.checkpoints.header import Shapes
from app.checkpoints.kinds import NotUsable

_BY_WIDTH = {family.context: family.name for family in FAMILIES if family.channels == 4}
_CROSS_ATTENTION = re.compile(r"attn2[._](?:processor[._])?to_[kv]|attn2_to_[kv]")
_INNER = ("lora_down.weight", "lora_A.weight", "lora_A.default.weight", "lora.down.weight", "hada_w1_b", "down.weight")
_SAID = (
    (re.compile(r"xl|sdxl", re.I), "sdxl"),
    (re.compile(r"v2|-2-|2\.[01]|sd_?2", re.I), "sd2"),
    (re.compile(r"v1|-1-|1\.[45]|sd_?1", re.I), "sd1"),
)
_MARKS_OF_XL = ("lora_te1_", "lora_te2_", "text_encoder_2.", "lora_unet_input_blocks_", "lora_unet_output_blocks_")
_MARKS_OF_OTHERS = re.compile(
    r"^(transformer\.|lora_transformer_|diffusion_model\.(double|single|joint)_blocks|lora_unet_(double|single|joint)_blocks"
    r"|lora_prior_|base_model\.model\.transformer)"
)


def base_of(kind: str, name: str, shapes: Shapes, said: Mapping[str, str]) -> str | None:
    """The plain family; None where it can't be told, or where it doesn't matter. Raises NotUsable."""
    match kind:
        case "lora":
            return _base_of_lora(shapes, said)
        case "embedding":
            return _base_of_embedding(shapes)
        case "controlnet":
            return _base_of_controlnet(shapes)
        case "vae":
            return _base_of_vae(name, shapes)
    return None


def base_of_width(width: object) -> str | None:
    """By the width of the text embeddings."""
    return _BY_WIDTH.get(width) if isinstance(width, int) else None


def _base_of_lora(shapes: Shapes, said: Mapping[str, str]) -> str | None:
    if any(_MARKS_OF_OTHERS.match(name) for name in shapes):
        raise NotUsable("is a LoRA for another kind of checkpoint (such as Flux or Stable Diffusion 3).")
    for name, shape in shapes.items():
        if name.endswith(_INNER) and len(shape) >= 2 and _CROSS_ATTENTION.search(name):
            return base_of_width(shape[1])
    if any(mark in name for name in shapes for mark in _MARKS_OF_XL):
        return "sdxl"
    written = said.get("modelspec.architecture") or said.get("ss_base_model_version") or ""
    by_words = next((family for pattern, family in _SAID if written and pattern.search(written)), None)
    return by_words or _by_text_encoder(shapes)


def _by_text_encoder(shapes: Shapes) -> str | None:
    """A LoRA that changes only the text encoder, or whose UNet is changed by other means."""
    for name, shape in shapes.items():
        if "q_proj" in name and name.endswith(_INNER) and len(shape) == 2:
            return base_of_width(shape[1])
    return None


def _base_of_embedding(shapes: Shapes) -> str | None:
    if set(shapes) == {"clip_l", "clip_g"}:
        return "sdxl"
    return next((base_of_width(shape[-1]) for shape in shapes.values() if shape), None)


def _base_of_controlnet(shapes: Shapes) -> str | None:
    found = (shape[1] for name, shape in shapes.items() if name.endswith("attn2.to_k.weight"))
    return base_of_width(next(found, None))


def _base_of_vae(name: str, shapes: Shapes) -> str | None:
    """SD 1, SD 2 and SDXL have VAEs of one shape. A tiny one says in its name which latents it reads."""
    latents = next((shape[1] for each, shape in shapes.items() if each.endswith("decoder.conv_in.weight")), 4)
    if latents != 4:
        raise NotUsable(f"is a VAE of {latents} channels, for another kind of checkpoint (Stable Diffusion 3 or Flux).")
    if name.lower().startswith("taesd"):
        return "sdxl" if "xl" in name.lower() else "sd1"
    return None
