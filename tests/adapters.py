"""Files that go with the shipped checkpoint, by their headers: what they hold is nothing."""

from __future__ import annotations

from pathlib import Path

from tests.workers.headers import write

_CROSS_ATTENTION = "down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
_CONTROL = "control_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


def lora(folder: Path, name: str, width: int = 64) -> None:
    """`width` says for which family: 768 is for Stable Diffusion 1."""
    write(folder / f"loras/{name}.safetensors", {f"lora_unet_{_CROSS_ATTENTION}.lora_down.weight": [4, width]})


def dress(folder: Path) -> None:
    """The LoRA `ink`, the textual inversion `bad-hands`, the VAE `soft`, the ControlNet `canny`, the upscaler `x4`."""
    lora(folder, "ink")
    write(folder / "embeddings/bad-hands.safetensors", {"emb_params": [4, 64]})
    vae = {"encoder.conv_in.weight": [128, 3, 3, 3], "decoder.conv_in.weight": [512, 4, 3, 3]}
    write(folder / "vae/soft.safetensors", vae)
    hint = {"control_model.input_hint_block.0.weight": [16, 3, 3, 3]}
    write(folder / "controlnet/canny.safetensors", {**hint, _CONTROL: [64, 64]})
    write(folder / "upscalers/x4.safetensors", {"conv_first.weight": [64, 3, 3, 3]})
