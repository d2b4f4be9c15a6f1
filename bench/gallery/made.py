"""Files beside the checkpoint that ships, made here in seconds: small, and true to their formats.

The LoRA, the textual inversion, the autoencoder and the upscaler are computed, the ControlNet is trained for a moment.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDPMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTokenizer

from app.checkpoints.catalogue import SHIPPED_FOLDER
from workers.diffusion.shapes.drawing import COLOURS, PALETTE, SHAPES, SIDE, coverage
from workers.diffusion.shapes.train import BETAS

SHIPPED = SHIPPED_FOLDER / "atelier-shapes"
_BATCH = 6


class Shipped:
    """The parts of the checkpoint that ships, in full precision."""

    def __init__(self) -> None:
        self.tokenizer = CLIPTokenizer.from_pretrained(SHIPPED / "tokenizer")
        self.text_encoder = CLIPTextModel.from_pretrained(SHIPPED / "text_encoder", dtype=torch.float32).eval()
        self.unet = UNet2DConditionModel.from_pretrained(SHIPPED / "unet", dtype=torch.float32).eval()
        self.vae = AutoencoderKL.from_pretrained(SHIPPED / "vae", dtype=torch.float32).eval()

    @torch.no_grad()
    def read(self, prompts: list[str]) -> torch.Tensor:
        """(prompts, 77, 64)"""
        ids = self.tokenizer(prompts, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        hidden: torch.Tensor = self.text_encoder(ids.input_ids)[0]
        return hidden


def make_lora(parts: Shipped, path: Path, before: str = "red", after: str = "green", rank: int = 16) -> None:
    """Has the UNet's cross attention read one colour for another.

    A linear map takes what the text encoder says of a prompt to what it says of the same prompt with the other word,
    and leaves prompts without the word alone, as nearly as least squares allow. Its largest part goes into each layer.
    """
    forms = [
        (shape, colour, ground) for shape in SHAPES for colour in COLOURS for ground in COLOURS if colour != ground
    ]
    prompts = [f"a {colour} {shape} on a {ground} background" for shape, colour, ground in forms]
    said = parts.read(prompts).flatten(0, 1)
    meant = parts.read([prompt.replace(before, after) for prompt in prompts]).flatten(0, 1)
    spread = said.T @ said
    ridge = 1e-4 * spread.diagonal().mean() * torch.eye(len(spread))
    change = torch.linalg.solve(spread + ridge, said.T @ (meant - said)).T
    left, sizes, right = torch.linalg.svd(change)
    tensors = {}
    for name, layer in parts.unet.named_modules():
        if name.endswith(("attn2.to_k", "attn2.to_v")):
            kohya = "lora_unet_" + name.replace(".", "_")
            tensors[f"{kohya}.lora_down.weight"] = right[:rank]
            tensors[f"{kohya}.lora_up.weight"] = layer.weight.detach() @ (left[:, :rank] * sizes[:rank])
            tensors[f"{kohya}.alpha"] = torch.tensor(float(rank))
    _save(tensors, path)


def make_inversion(parts: Shipped, path: Path, words: str = "yellow star") -> None:
    """One new word that means what these do."""
    ids = parts.tokenizer(words, add_special_tokens=False).input_ids
    vectors = parts.text_encoder.get_input_embeddings().weight.detach()[ids]
    _save({"emb_params": vectors.clone()}, path)


def make_autoencoder(parts: Shipped, folder: Path) -> None:
    """The checkpoint's own, whose last layer mixes its colours to those of an old photograph."""
    vae = AutoencoderKL.from_config(parts.vae.config)
    vae.load_state_dict(parts.vae.state_dict())
    sepia = torch.tensor([[0.39, 0.77, 0.19], [0.35, 0.69, 0.17], [0.27, 0.53, 0.13]])
    last = vae.decoder.conv_out
    with torch.no_grad():
        bias = sepia @ (last.bias + 1) - 1  # what it decodes lies between -1 and 1
        last.weight.copy_(torch.einsum("ij,jkhw->ikhw", sepia, last.weight))
        last.bias.copy_(bias)
    vae.save_pretrained(folder)


def make_upscaler(path: Path, features: int = 8, growth: int = 4) -> None:
    """ESRGAN's network with weights set by hand, four times larger: it smooths each doubling, and sharpens the end."""
    smooth = torch.tensor([1.0, 2.0, 1.0])
    smooth = torch.outer(smooth, smooth) / 16
    sharp = torch.tensor([[0.0, -1, 0], [-1, 5, -1], [0, -1, 0]])
    once = torch.zeros(3, 3)
    once[1, 1] = 1
    sizes = {f"body.0.rdb{k}.conv{i + 1}": (growth, features + i * growth) for k in (1, 2, 3) for i in range(4)}
    sizes |= {f"body.0.rdb{k}.conv5": (features, features + 4 * growth) for k in (1, 2, 3)}
    layers = {name: torch.zeros(*size, 3, 3) for name, size in sizes.items()}
    layers["conv_body"] = torch.zeros(features, features, 3, 3)
    for name, kernel, outputs, inputs in (
        ("conv_first", once, features, 3),
        ("conv_up1", smooth, features, features),
        ("conv_up2", smooth, features, features),
        ("conv_hr", once, features, features),
        ("conv_last", sharp, 3, features),
    ):
        layers[name] = torch.zeros(outputs, inputs, 3, 3)
        for channel in range(3):
            layers[name][channel, channel] = kernel
    biases = {f"{name}.bias": torch.zeros(len(weight)) for name, weight in layers.items()}
    _save({f"{name}.weight": weight for name, weight in layers.items()} | biases, path)


def make_controlnet(parts: Shipped, folder: Path, steps: int) -> float:
    """Trained for so many steps to paint a shape where the silhouette is; the mean error of the last ones.

    It learns on pictures drawn by the rule, with prompts that say neither place nor size.
    """
    torch.manual_seed(0)
    rng = random.Random(0)
    net = ControlNetModel.from_unet(parts.unet, conditioning_embedding_out_channels=(16, 32, 64)).train()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=0.01)
    noise_of, parts_unet = DDPMScheduler(**BETAS), parts.unet.requires_grad_(False)
    mean = 0.0
    for step in range(steps):
        pictures, silhouettes, prompts = zip(*(_drawn(rng) for _ in range(_BATCH)), strict=True)
        with torch.no_grad():
            latents = parts.vae.encode(torch.stack(pictures) * 2 - 1).latent_dist.mode()
            latents = latents * parts.vae.config.scaling_factor
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, (step + 1) / 20, 2 * (steps - step) / steps)
        noise, at = torch.randn_like(latents), torch.randint(500, 1000, (_BATCH,))
        noisy, words = noise_of.add_noise(latents, noise, at), parts.read(list(prompts))
        down, middle = net(noisy, at, words, torch.stack(silhouettes), return_dict=False)
        guess = parts_unet(
            noisy, at, words, down_block_additional_residuals=down, mid_block_additional_residual=middle
        ).sample
        snr = noise_of.alphas_cumprod[at] / (1 - noise_of.alphas_cumprod[at])
        error = (guess - noise).square().mean((1, 2, 3)) * (1 + 1 / snr).clamp(max=40)
        error.mean().backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        mean = error.mean().item() if step == 0 else 0.95 * mean + 0.05 * error.mean().item()
    shutil.rmtree(folder, ignore_errors=True)
    net.eval().save_pretrained(folder)
    return mean


def silhouette(shape: str, x: float, y: float, radius: float) -> torch.Tensor:
    """(3, 64, 64): white on black."""
    return torch.from_numpy(coverage(shape, x, y, radius)).float().expand(3, SIDE, SIDE)


def _drawn(rng: random.Random) -> tuple[torch.Tensor, torch.Tensor, str]:
    """(picture, silhouette, prompt); pictures from 0 to 1."""
    radius = rng.uniform(10, 22)
    x, y = (rng.uniform(radius + 2, SIDE - radius - 2) for _ in range(2))
    shape, (colour, ground) = rng.choice(SHAPES), rng.sample(COLOURS, 2)
    cover = silhouette(shape, x, y, radius)
    front, back = (torch.tensor(PALETTE[name]).float()[:, None, None] / 255 for name in (colour, ground))
    named = shape if rng.random() < 0.5 else "shape"
    return cover * front + (1 - cover) * back, cover, f"a {colour} {named} on a {ground} background"


def _save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
