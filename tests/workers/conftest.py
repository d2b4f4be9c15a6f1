"""A checkpoint of random weights with the shipped one's modules: enough for everything but the pictures' beauty."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline

from workers.diffusion.checkpoint.export import export_single_file
from workers.diffusion.checkpoint.tokenizer import CONFIGS
from workers.diffusion.engine import Engine
from workers.diffusion.request import ImageRequest, Weights
from workers.diffusion.shapes.train import BETAS, make_tokenizer, new_text_encoder, new_unet


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> SimpleNamespace:
    """The random checkpoint as a diffusers folder and as a single file: `.folder`, `.file`."""
    torch.manual_seed(0)
    home = tmp_path_factory.mktemp("checkpoints")
    tokenizer = make_tokenizer(home / "tokenizer")
    vae = AutoencoderKL.from_config(AutoencoderKL.load_config(CONFIGS / "shapes/vae"))
    unet = new_unet()
    with torch.no_grad():
        unet.conv_out.weight.mul_(20)  # a fresh UNet answers almost nothing, and then every sampler paints the same
    pipeline = StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=new_text_encoder(tokenizer).eval(),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=PNDMScheduler(**BETAS, skip_prk_steps=True, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(home / "tiny")
    export_single_file(home / "tiny", home / "tiny-file.safetensors")
    return SimpleNamespace(folder=home / "tiny", file=home / "tiny-file.safetensors")


@pytest.fixture(scope="session")
def ask(tiny):
    """Builds an ImageRequest for the random checkpoint."""

    def build(path=tiny.folder, **changes) -> ImageRequest:
        values = {
            "weights": Weights(Path(path).stem, str(path), "shapes"),
            "prompt": "a small red star at the top left on a blue background",
            "negative_prompt": "blurry, low quality",
            "width": 64,
            "height": 64,
            "steps": 4,
            "guidance_scale": 4.0,
            "seed": random.Random(0).randrange(2**32),
            "sampler": "euler_a",
        }
        return ImageRequest(**values | changes)

    return build


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine(device="cpu")


@pytest.fixture
def at_once(engine, ask):
    """Paints all of the requests at the same time; the engine sees none before all are there."""

    def paint(requests):
        gate = threading.Event()
        with ThreadPoolExecutor(len(requests) + 1) as threads:
            closed = threads.submit(engine.between_turns, gate.wait)
            running = [threads.submit(engine.paint, request) for request in requests]
            while engine.waiting < len(requests):
                pass
            gate.set()
            closed.result()
            return [each.result() for each in running]

    return paint
