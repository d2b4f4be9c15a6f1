"""The tensors of a whole checkpoint, or the configuration of its UNet → its family. What is only close is named."""

from __future__ import annotations

from typing import Any

from app.checkpoints.checkpoint import FAMILIES, SD1, SD1_INPAINT, SD2, SDXL, SDXL_INPAINT, Family
from app.checkpoints.header import Shapes
from app.checkpoints.kinds import FIRST_LAYER, INSTEAD, UNET, VAE_LAYER, NotUsable, kind_of

CLIP_WORDS = 49408
_CLIPS = ("cond_stage_model.transformer.", "conditioner.embedders.0.transformer.")
_TOKENS = (
    *(f"{clip}{inner}embeddings.token_embedding.weight" for clip in _CLIPS for inner in ("text_model.", "")),
    "cond_stage_model.model.token_embedding.weight",
)
_SECOND_TOKENS = "conditioner.embedders.1.model.token_embedding.weight"
_LABELS = UNET + "label_emb.0.0.weight"
_DEEPEST = UNET + "middle_block.1.transformer_blocks.9.attn2.to_k.weight"  # of SDXL; its distilled kin is shallower

_CHANNELS = {
    8: "an instruct-pix2pix checkpoint (8 input channels)",
    7: "an upscaler checkpoint (7 input channels)",
    5: "a depth-guided checkpoint (5 input channels)",
}
_REFINER = "an SDXL refiner: it finishes pictures that an SDXL checkpoint has begun"


def family_of(shapes: Shapes) -> tuple[Family, tuple[str, ...]]:
    """The family of a single file's tensors, and which of "text_encoder" and "vae" it has not. Raises NotUsable."""
    if FIRST_LAYER not in shapes:
        kind = kind_of(shapes)
        raise (
            kind.as_checkpoint()
            if kind
            else NotUsable(f"holds no Stable Diffusion UNet and nothing else that Atelier knows. {INSTEAD}")
        )
    kind = kind_of(shapes)
    if kind and kind.word != "checkpoint":
        raise kind.as_checkpoint()
    family = family_of_unet(shapes[FIRST_LAYER][1], _context(shapes))
    _check_kin(family, shapes)
    words = next((shapes[name][0] for name in _TOKENS if name in shapes), None)
    if words is not None and family in (SD1, SD1_INPAINT) and words != CLIP_WORDS:
        raise NotUsable(f"has a text encoder of {words:,} tokens instead of CLIP's {CLIP_WORDS:,}. {INSTEAD}")
    is_dumb = words is None or (family in (SDXL, SDXL_INPAINT) and _SECOND_TOKENS not in shapes)
    lacks = (*(["text_encoder"] if is_dumb else []), *(["vae"] if VAE_LAYER not in shapes else []))
    return family, lacks


def family_of_unet(channels: int, context: int | None) -> Family:
    """The family of a UNet that takes `channels` and reads text embeddings `context` wide. Raises NotUsable."""
    found = next((each for each in FAMILIES if (each.channels, each.context) == (channels, context)), None)
    if found:
        return found
    if context == 1280:
        raise NotUsable(f"is {_REFINER}. {INSTEAD}")
    if channels not in (4, 9):
        raise NotUsable(f"is {_CHANNELS.get(channels, f'a checkpoint with {channels} input channels')}. {INSTEAD}")
    raise NotUsable(f"is a diffusion checkpoint of an unknown kind (text embeddings {context} wide). {INSTEAD}")


def family_of_folder(kind: str, channels: int, context: Any) -> Family:
    """The family of a diffusers folder for pipelines of `kind`, by its UNet's configuration. Raises NotUsable."""
    if kind not in _PIPELINES:
        raise NotUsable(f"is a diffusers folder for {kind}, which is none of Atelier's. {INSTEAD}")
    if "XL" not in kind:
        return family_of_unet(channels, context)
    if context == 1280:
        raise NotUsable(f"is {_REFINER}. {INSTEAD}")
    return family_of_unet(channels, SDXL.context)


_PIPELINES = frozenset(f"StableDiffusion{xl}{way}Pipeline" for xl in ("", "XL") for way in ("", "Img2Img", "Inpaint"))


def _check_kin(family: Family, shapes: Shapes) -> None:
    """Raises NotUsable for UNets that have a family's widths and are none of it."""
    if family is SD2 and _LABELS in shapes:
        raise NotUsable(f"is an unCLIP checkpoint (Stable Diffusion 2 that paints from pictures). {INSTEAD}")
    if family in (SDXL, SDXL_INPAINT):
        if "edm_mean" in shapes or "edm_std" in shapes:
            raise NotUsable(f"is a Playground 2.5 checkpoint, which Atelier can't paint with. {INSTEAD}")
        if _DEEPEST not in shapes:
            raise NotUsable(f"is a distilled SDXL checkpoint (such as SSD-1B), with fewer layers. {INSTEAD}")


def _context(shapes: Shapes) -> int | None:
    """The width that the first cross-attention reads; it is in input block 1 of SD 1, 3 of ours, 4 of SDXL."""
    names = (f"{UNET}input_blocks.{block}.1.transformer_blocks.0.attn2.to_k.weight" for block in range(1, 12))
    return next((shapes[name][1] for name in names if name in shapes), None)
