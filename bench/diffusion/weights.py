"""Checkpoints for the benchmark, made here: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from app.checkpoints.catalogue import SHIPPED_FOLDER
from workers.diffusion.checkpoint.export import export_single_file
from workers.diffusion.checkpoint.tokenizer import CONFIGS, tokenizer

KEPT = Path("build/bench-diffusion")


def random_stable_diffusion() -> Path:
    """Stable Diffusion 1.5 in full size and half precision as a diffusers folder. Kept, for it takes a while."""
    folder = KEPT / "random-sd15"
    if not (folder / "model_index.json").is_file():
        torch.manual_seed(0)
        configs = CONFIGS / "sd1"
        text_config = CLIPTextConfig.from_pretrained(configs / "text_encoder")
        StableDiffusionPipeline(
            vae=_random(lambda: AutoencoderKL.from_config(AutoencoderKL.load_config(configs / "vae"))),
            text_encoder=_random(lambda: CLIPTextModel(text_config)),
            tokenizer=tokenizer("sd1"),
            unet=_random(lambda: UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(configs / "unet"))),
            scheduler=PNDMScheduler.from_pretrained(configs / "scheduler"),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ).save_pretrained(folder)
    return folder


def _random(build) -> torch.nn.Module:
    """The module with weights that keep the size of what goes through it, so that half precision holds it."""
    with init_empty_weights(include_buffers=False):
        module = build()
    module = module.to_empty(device="cpu").half()
    for name, weight in module.named_parameters():
        with torch.no_grad():
            if weight.dim() > 1:
                torch.nn.init.normal_(weight, std=0.5 * weight[0].numel() ** -0.5)
            else:
                weight.fill_(1.0 if name.endswith("weight") else 0.0)
    return module.eval()


def single_file(folder: Path, into: Path) -> Path:
    file = into / f"{folder.name}.safetensors"
    export_single_file(folder, file)
    return file


def cousins(count: int, into: Path) -> Sequence[Path]:
    """Single files like the checkpoint that ships, each of which paints other pictures of the same prompts."""
    first = single_file(SHIPPED_FOLDER / "atelier-shapes", into)
    weights = load_file(first)
    files = [first]
    for number in range(1, count):
        chance = torch.Generator().manual_seed(number)
        changed = {
            name: weight + 0.1 * weight.std() * torch.randn(weight.shape, generator=chance, dtype=weight.dtype)
            if name.startswith("model.diffusion_model.") and weight.dim() > 1
            else weight
            for name, weight in weights.items()
        }
        files.append(into / f"cousin-{number}.safetensors")
        save_file(changed, files[-1], metadata={"format": "pt"})
    return files
