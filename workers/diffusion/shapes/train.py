"""Trains the checkpoint that ships: a tiny but real Stable Diffusion, from nothing, on a CPU, with no download.

    python -m workers.diffusion.shapes.train OUT_FOLDER [AUTOENCODER_S UNET_S DECODER_S]

Latent diffusion as in Stable Diffusion 1 (KL autoencoder, CLIP text encoder, conditional UNet, epsilon prediction, the
same noise schedule), two orders of magnitude smaller; a latent covers 4 x 4 pixels, so that small shapes stay sharp.
The autoencoder comes first, because a shape that it cannot redraw no UNet can learn. Its encoder is then left alone,
and with it the latents that the UNet learns; the decoder is polished at the end.
What ships took 840 s for the autoencoder, some 2,700 + 600 + 780 s for the UNet (each going on from the last one's
`so-far`; only the last with today's weights of the noise levels) and 330 s for the decoder, on two shared cores.
Each phase is bounded in seconds, so the run ends when you said, and is passed over when OUT_FOLDER has its result.
"""

from __future__ import annotations

import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from workers.diffusion.shapes.drawing import VOCABULARY, Scene, caption, draw_scene, random_scene

SCENES = 30_000
BATCH, PEAK = 24, 1.2e-3
BETAS = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def make_tokenizer(folder: Path) -> CLIPTokenizer:
    """A real CLIP tokenizer with a tiny vocabulary: the byte alphabet and one token for each known word."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    alphabet = [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]
    vocabulary = alphabet + [letter + "</w>" for letter in alphabet]
    merges: list[tuple[str, str]] = []
    known = set(vocabulary)
    for word in sorted(VOCABULARY, key=len):
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:  # from the right, so that the chains of two words do not collide at their start
            left, right = parts[-2:]
            if left + right not in known:
                known.add(left + right)
                vocabulary.append(left + right)
                merges.append((left, right))
            parts[-2:] = [left + right]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={t: i for i, t in enumerate(vocabulary)}, merges=merges, model_max_length=77)
    tokenizer.save_pretrained(folder)
    split = [word for word in VOCABULARY if len(tokenizer(word).input_ids) != 3]
    if split:
        raise RuntimeError(f"words that are more than one token: {split}")
    return tokenizer


def clock(seconds: float) -> Iterator[tuple[int, float]]:
    """Step numbers with the elapsed share of the time, until the time is over."""
    start, step = time.monotonic(), 0
    while (share := (time.monotonic() - start) / seconds) < 1:
        yield step, share
        step += 1


def cosine(peak: float, step: int, share: float, warm_up: int) -> float:
    return peak * min(1.0, (step + 1) / warm_up) * (0.5 * (1 + math.cos(math.pi * share)) + 0.005)


def new_autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=4,  # of 16 channels: one group a channel would wash flat colours out
        sample_size=64,
    )


def train_autoencoder(pictures: torch.Tensor, seconds: float) -> AutoencoderKL:
    vae = new_autoencoder()
    optimizer = torch.optim.AdamW(vae.parameters(), 2e-3, betas=(0.9, 0.99), weight_decay=0)

    def loss_of(x: torch.Tensor) -> torch.Tensor:
        z = vae.encode(x).latent_dist.mode()
        y = vae.decode(z + 0.05 * z.detach().std() * torch.randn_like(z)).sample
        loss: torch.Tensor = redrawing_loss(y, x) + 1e-5 * z.square().mean()
        return loss

    descend("autoencoder", optimizer, pictures, seconds, loss_of)
    return vae.eval()


def polish_decoder(vae: AutoencoderKL, pictures: torch.Tensor, seconds: float) -> AutoencoderKL:
    """Trains the decoder on, on latents with a little noise: what a sampler makes is never quite what was encoded."""
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    decoder = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    optimizer = torch.optim.AdamW(decoder, 1e-3, betas=(0.9, 0.99), weight_decay=0)

    def loss_of(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            z = vae.encode(x).latent_dist.mode()
            z = z + torch.rand(len(z), 1, 1, 1) * 0.15 * z.std() * torch.randn_like(z)
        return redrawing_loss(vae.decode(z).sample, x)

    descend("decoder", optimizer, pictures, seconds, loss_of)
    return vae.eval()


def descend(
    name: str,
    optimizer: torch.optim.Optimizer,
    pictures: torch.Tensor,
    seconds: float,
    loss_of: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """Steps on random pictures until the time is over, with a cosine of the optimizer's learning rate."""
    peak, mean = optimizer.param_groups[0]["lr"], 0.0
    for step, share in clock(seconds):
        optimizer.param_groups[0]["lr"] = cosine(peak, step, share, 50)
        loss = loss_of(pictures[torch.randint(0, len(pictures), (BATCH,))].float() / 127.5 - 1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
        optimizer.step()
        mean = loss.item() if step == 0 else 0.98 * mean + 0.02 * loss.item()
        if step % 100 == 0:
            print(f"{name} {step:5d} {share:4.0%} loss {mean:.4f}", flush=True)


def redrawing_loss(redrawn: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """The rim counts three times: zero padding makes it the hardest part, and an artefact there always shows."""
    weight = torch.ones(64, 64)
    weight[:3], weight[-3:], weight[:, :3], weight[:, -3:] = 3, 3, 3, 3
    error = redrawn - pictures
    return ((error.abs() + error.square()) * weight / weight.mean()).mean()


@torch.no_grad()
def encode_all(vae: AutoencoderKL, pictures: torch.Tensor) -> torch.Tensor:
    rows = [
        vae.encode(pictures[i : i + 64].float() / 127.5 - 1).latent_dist.mode() for i in range(0, len(pictures), 64)
    ]
    return torch.cat(rows)


@torch.no_grad()
def normalise_latents(vae: AutoencoderKL, pictures: torch.Tensor) -> None:
    """Folds each channel's mean and deviation into the 1 x 1 convolutions, so that SD's factor 0.18215 holds."""
    z = encode_all(vae, pictures)
    mean, std = z.mean((0, 2, 3)), z.std((0, 2, 3))
    scale = 1 / (std * vae.config.scaling_factor)
    weight, bias = vae.quant_conv.weight, vae.quant_conv.bias
    weight[:4] *= scale.view(4, 1, 1, 1)
    bias[:4] = (bias[:4] - mean) * scale
    weight[4:], bias[4:] = 0, -12  # the log-variance: practically none
    weight, bias = vae.post_quant_conv.weight, vae.post_quant_conv.bias
    bias += weight[:, :, 0, 0] @ mean
    weight /= scale.view(1, 4, 1, 1)


def new_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(48, 96, 128),
        norm_num_groups=16,
        # Attention where a cell is 8 pixels or more: above that it costs half of the time and adds nothing here.
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=64,
        attention_head_dim=4,
    )


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=77,
            projection_dim=64,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def noise_levels(count: int) -> torch.Tensor:
    """Timesteps, half of them from the noisy end: there the words alone decide where a shape lies.

    Where less noise is, the latents give the place away, and the words for it teach nothing.
    """
    t = torch.randint(0, 1000, (count,))
    late = torch.randint(650, 1000, (count,))
    return torch.where(torch.rand(count) < 0.5, late, t)


class Denoiser:
    """UNet and text encoder in training, with a moving average of both: the average is what ships."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        self.tokenizer = tokenizer
        self.unet = new_unet().to(memory_format=torch.channels_last)
        self.text_encoder = new_text_encoder(tokenizer)
        self.parameters = [*self.unet.parameters(), *self.text_encoder.parameters()]
        self.average = [p.detach().clone() for p in self.parameters]
        self.noise = DDPMScheduler(**BETAS)
        snr = self.noise.alphas_cumprod / (1 - self.noise.alphas_cumprod)
        # min-SNR-5 where little noise is. Where much is, the error of the picture counts and not that of the noise:
        # the place of a shape is decided there, and hardly shows in the noise.
        self.weight = snr.clamp(max=5) / snr * (1 + 1 / snr).clamp(max=40)
        self.optimizer = torch.optim.AdamW(self.parameters, 1e-3, betas=(0.9, 0.99), weight_decay=0.01)

    @torch.no_grad()
    def resume(self, folder: Path) -> None:
        """Goes on from what `save` wrote."""
        unet = UNet2DConditionModel.from_pretrained(folder / "unet")
        text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder")
        saved = [*unet.parameters(), *text_encoder.parameters()]
        for own, average, value in zip(self.parameters, self.average, saved, strict=True):
            own.copy_(value)
            average.copy_(value)

    def step(self, latents: torch.Tensor, captions: list[str], lr: float, count: int) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        ids = self.tokenizer(captions, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        noise, t = torch.randn_like(latents), noise_levels(len(latents))
        hidden = self.text_encoder(ids.input_ids)[0]
        guess = self.unet(self.noise.add_noise(latents, noise, t), t, hidden).sample
        each = (guess - noise).square().mean((1, 2, 3))
        (each * self.weight[t]).mean().backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        decay = min(0.999, (1 + count) / (10 + count))
        torch._foreach_mul_(self.average, decay)
        torch._foreach_add_(self.average, [p.detach() for p in self.parameters], alpha=1 - decay)
        return float(each.mean().item())

    @torch.no_grad()
    def save(self, vae: AutoencoderKL, folder: Path) -> None:
        """Writes the moving average as a diffusers folder in fp16; training goes on untouched."""
        unet, text_encoder = new_unet(), new_text_encoder(self.tokenizer)
        for target, value in zip([*unet.parameters(), *text_encoder.parameters()], self.average, strict=True):
            target.copy_(value)
        autoencoder = AutoencoderKL.from_config(vae.config)
        autoencoder.load_state_dict(vae.state_dict())
        scheduler = PNDMScheduler(**BETAS, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1)
        pipeline = StableDiffusionPipeline(
            vae=autoencoder.eval(),
            text_encoder=text_encoder.eval(),
            tokenizer=self.tokenizer,
            unet=unet.eval(),
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.to(torch.float16).save_pretrained(folder)


def train_denoiser(
    folder: Path, vae: AutoencoderKL, scenes: list[Scene], pictures: torch.Tensor, seconds: float
) -> None:
    """Trains UNet and text encoder, and saves the pipeline as `folder`; now and then a first look beside it."""
    rng = random.Random(1)
    latents = encode_all(vae, pictures) * vae.config.scaling_factor
    print(f"autoencoder PSNR {psnr_db(vae, pictures[:256]):.1f} dB, latent std {latents.std():.3f}", flush=True)
    denoiser, mean, saved_s = Denoiser(make_tokenizer(folder.parent / "tokenizer")), 0.0, time.monotonic()
    if (folder.parent / "so-far").exists():
        denoiser.resume(folder.parent / "so-far")
    for step, share in clock(seconds):
        chosen = torch.randint(0, len(scenes), (BATCH,))
        captions = [caption(rng, scenes[int(i)]) for i in chosen]
        loss = denoiser.step(latents[chosen], captions, cosine(PEAK, step, share, 100), step)
        mean = loss if step == 0 else 0.99 * mean + 0.01 * loss
        if step % 100 == 0:
            print(f"unet {step:6d} {share:4.0%} error {mean:.4f}", flush=True)
        if time.monotonic() - saved_s > 600:
            denoiser.save(vae, folder.parent / "so-far")
            saved_s = time.monotonic()
    denoiser.save(vae, folder)


@torch.no_grad()
def psnr_db(vae: AutoencoderKL, pictures: torch.Tensor) -> float:
    """How well the autoencoder redraws the pictures: 10 log10(peak² / mean squared error)."""
    x = pictures.float() / 127.5 - 1
    redrawn = vae.decode(vae.encode(x).latent_dist.mode()).sample
    return 10 * math.log10(4 / F.mse_loss(redrawn, x).item())


def main(out: Path, autoencoder_s: float = 900, unet_s: float = 4200, decoder_s: float = 900) -> None:
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    rng = random.Random(0)
    scenes = [random_scene(rng) for _ in range(SCENES)]
    pictures = torch.from_numpy(np.stack([draw_scene(rng, s) for s in scenes])).permute(0, 3, 1, 2).contiguous()
    if not (out / "vae").exists():
        vae = train_autoencoder(pictures, autoencoder_s)
        normalise_latents(vae, pictures)
        vae.save_pretrained(out / "vae")
    vae = AutoencoderKL.from_pretrained(out / "vae").eval()
    if not (out / "fp16").exists():
        train_denoiser(out / "fp16", vae, scenes, pictures, unet_s)
    vae = polish_decoder(vae, pictures, decoder_s)
    print(f"polished: PSNR {psnr_db(vae, pictures[:256]):.1f} dB", flush=True)
    vae.to(torch.float16).save_pretrained(out / "fp16" / "vae")


if __name__ == "__main__":
    torch.set_num_threads(os.cpu_count() or 2)
    folder, *budget = sys.argv[1:]
    main(Path(folder), *map(float, budget))
