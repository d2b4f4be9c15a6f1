"""Tensor names and shapes → what kind of weights a file holds.

By positive evidence only: a file is something because the parts of that are there, never because nothing else fitted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from app.checkpoints.header import Shapes

UNET = "model.diffusion_model."
_TEXT_WIDTHS = (64, 768, 1024, 1280)  # of the text encoders
FIRST_LAYER = UNET + "input_blocks.0.0.weight"
VAE_LAYER = "first_stage_model.decoder.conv_in.weight"
INSTEAD = "Atelier paints with Stable Diffusion 1 and 2 and SDXL checkpoints; use one of those."

FOLDERS = {
    "lora": "loras",
    "embedding": "embeddings",
    "vae": "vae",
    "controlnet": "controlnet",
    "upscaler": "upscalers",
    "text_encoder": "text_encoders",
}
"""The folders, within that of the checkpoints, of what goes with a checkpoint."""


class NotUsable(Exception):
    """The weights can't be used here. Its text says what they are and what to do; the file's name stands before it."""


class Kind(NamedTuple):
    """`noun` is what people call it; `does` follows it, and says why it can't paint by itself."""

    word: str
    noun: str
    does: str = ""

    def as_checkpoint(self) -> NotUsable:
        """It lies among the checkpoints."""
        way_out = f"Put it into {FOLDERS[self.word]}/ beside them." if self.word in FOLDERS else INSTEAD
        return NotUsable(f"is {self.noun}{f': {self.does}' if self.does else ''}. {way_out}")

    def as_another(self, wanted: str) -> NotUsable:
        """It lies among those of kind `wanted`."""
        where = FOLDERS.get(self.word) if self.word != "checkpoint" else "the folder of the checkpoints"
        way_out = f" It belongs into {where}{'/' if self.word in FOLDERS else ''}." if where else ""
        return NotUsable(f"is {self.noun}, not {_BY_WORD[wanted].noun}.{way_out}")


def kind_of(shapes: Shapes) -> Kind | None:
    """What the tensors are; None for nothing that is known."""
    return next((kind for kind, belongs in _KINDS if belongs(shapes)), None)


def _with(*parts: str) -> Callable[[Iterable[str]], bool]:
    """Is there a tensor with one of `parts` in its name?"""

    def belongs(names: Iterable[str]) -> bool:
        text = "\n".join(names)
        return any(part in text for part in parts)

    return belongs


def _with_all(*names: str) -> Callable[[Iterable[str]], bool]:
    return lambda given: set(names) <= set(given)


def _is_embedding(shapes: Shapes) -> bool:
    """One matrix of vectors under the name of its maker's program, or a single one as diffusers writes it."""
    if "emb_params" in shapes or any(name.startswith("string_to_param") for name in shapes):
        return True
    if set(shapes) == {"clip_l", "clip_g"}:
        return True
    if len(shapes) != 1:
        return False
    [(name, shape)] = shapes.items()
    return "embeddings." not in name and len(shape) in (1, 2) and shape[-1] in _TEXT_WIDTHS and shape[0] <= 1280


def _is_vae(shapes: Shapes) -> bool:
    whole = {"encoder.conv_in.weight", "decoder.conv_in.weight"} <= set(shapes)
    return whole or (VAE_LAYER in shapes and FIRST_LAYER not in shapes)


def _is_tiny_vae(shapes: Shapes) -> bool:
    """TAESD, whole as diffusers has it, or its decoder alone as its maker published it."""
    return "decoder.layers.0.weight" in shapes or ("1.weight" in shapes and "3.conv.0.weight" in shapes)


def _is_upscaler(shapes: Shapes) -> bool:
    if any(name in shapes for name in ("conv_first.weight", "model.0.weight", "params_ema.conv_first.weight")):
        return True
    return "body.0.weight" in shapes and "body.1.weight" in shapes  # Real-ESRGAN's compact ones


_LORA = Kind("lora", "a LoRA", "it changes a checkpoint and is none itself")
_EMBEDDING = Kind("embedding", "a textual inversion", "it teaches a checkpoint a word and is none itself")
_CONTROLNET = Kind("controlnet", "a ControlNet", "it steers a checkpoint and is none itself")
_VAE = Kind("vae", "a VAE alone", "it turns latents into pixels and can't paint by itself")
TINY_VAE = Kind("vae", "a tiny VAE (TAESD)", "it shows pictures in the making")
_UPSCALER = Kind("upscaler", "an upscaler (ESRGAN)", "it enlarges pictures and can't paint them")
_TEXT_ENCODER = Kind("text_encoder", "a text encoder alone", "it reads prompts and can't paint")
_CHECKPOINT = Kind("checkpoint", "a checkpoint")
_UNET = Kind("unet", "a UNet alone, with diffusers' names", "it is one part of a diffusers folder. Bring the whole one")

_KINDS: tuple[tuple[Kind, Callable[[Shapes], bool]], ...] = (
    (Kind("control_lora", "a Control-LoRA", "it steers a checkpoint, in a form that Atelier can't read"),
     _with_all("lora_controlnet")),
    (_LORA, _with("lora_down", "lora_up", "lora_A", "lora_B", "lora.down", ".hada_w1", ".lokr_w", ".lora_linear")),
    (_EMBEDDING, _is_embedding),
    (_CONTROLNET, _with("control_model.", "controlnet_cond_embedding", "controlnet_blocks", "input_hint_block")),
    (Kind("ip_adapter", "an IP-Adapter", "it steers a checkpoint, in a way that Atelier has not"),
     _with("ip_adapter.")),
    (Kind("t2i_adapter", "a T2I-Adapter", "it steers a checkpoint, in a way that Atelier has not"),
     _with_all("conv_in.weight", "body.0.resnets.0.block1.weight")),
    (Kind("motion", "a motion module", "it makes films of a checkpoint's pictures"), _with("motion_modules.")),
    (Kind("sd3", "a Stable Diffusion 3 checkpoint"), _with("joint_blocks.0.")),
    (Kind("flux", "a Flux checkpoint"), _with("double_blocks.0.img_attn", "single_transformer_blocks.0.")),
    (Kind("cascade", "a Stable Cascade checkpoint"), _with("clip_txt_mapper", "effnet_mapper")),
    (_UNET, _with_all("conv_in.weight", "time_embedding.linear_1.weight")),
    (Kind("unet", "a UNet alone", "its text encoder and its VAE are missing, and how they should be called"),
     _with_all("input_blocks.0.0.weight", "time_embed.0.weight")),
    (_CHECKPOINT, _with_all(FIRST_LAYER)),
    (_VAE, _is_vae),
    (TINY_VAE, _is_tiny_vae),
    (_UPSCALER, _is_upscaler),
    (_TEXT_ENCODER, _with("embeddings.token_embedding.weight", "token_embedding.weight")),
)  # fmt: skip
_BY_WORD = {
    kind.word: kind
    for kind in (_LORA, _EMBEDDING, _CONTROLNET, _UPSCALER, _TEXT_ENCODER, _CHECKPOINT, Kind("vae", "a VAE"))
}
