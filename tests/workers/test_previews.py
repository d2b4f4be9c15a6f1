"""A preview shows what will be there."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from PIL import Image
from safetensors.torch import save_file

from app.errors import CheckpointUnavailable
from workers.diffusion.drawing.conditioning import Conditioning
from workers.diffusion.drawing.denoiser import Drawing, Guidance
from workers.diffusion.drawing.schedulers import SAMPLERS
from workers.diffusion.pictures.previews import Previewer, alpha_at, load_tiny_decoder, without_noise
from workers.diffusion.shapes.drawing import PALETTE, Scene, draw_scene

SHIPPED = "app/checkpoints/shipped/atelier-shapes"


def shown(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg))).astype(int)


@pytest.mark.parametrize("ground", ["red", "blue", "yellow", "orange", "purple", "black"])
def test_colours_can_be_told_from_the_latents_alone(ground):
    vae = AutoencoderKL.from_pretrained(SHIPPED, subfolder="vae", local_files_only=True)
    picture = draw_scene(random.Random(0), Scene("white", "circle", ground))
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        latents = vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor
    corner = shown(Previewer("shapes").jpeg(latents))[:24, :24].mean((0, 1))
    nearest = min(PALETTE, key=lambda name: np.abs(corner - PALETTE[name]).sum())
    assert nearest == ground


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl", "shapes"])
def test_previews_are_small_and_keep_the_shape(family):
    latents = torch.randn(1, 4, 64, 96, generator=torch.Generator().manual_seed(0))
    jpeg = Previewer(family).jpeg(latents)
    assert shown(jpeg).shape == (128, 192, 3)
    assert len(jpeg) < 20_000


def test_latents_that_are_no_numbers_are_no_error():
    assert Previewer("sd1").jpeg(torch.full((1, 4, 8, 8), float("nan")))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noise_is_taken_off_again(prediction):
    clean, noise = torch.randn(2, 1, 4, 8, 8)
    alpha = 0.3
    seen = alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise
    predicted = noise if prediction == "epsilon" else alpha**0.5 * noise - (1 - alpha) ** 0.5 * clean
    assert torch.allclose(without_noise(seen, predicted, alpha, prediction), clean, atol=1e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", ["euler", "dpmpp_2m", "heun"])
def test_at_the_last_step_a_watched_drawing_shows_what_it_is(name, prediction):
    """Whatever the sampler and the prediction: there is no noise left to take off."""
    scheduler = SAMPLERS[name].scheduler({"beta_schedule": "scaled_linear", "prediction_type": prediction}, 1)
    latents, answer = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    guidance = Guidance(Conditioning(torch.zeros(1, 77, 8)), None, 1.0)
    drawing = Drawing(latents * scheduler.init_noise_sigma, scheduler, scheduler.timesteps, guidance, {})
    drawing.is_watched = True
    drawing.advance(answer)
    assert drawing.is_done
    assert torch.allclose(drawing.glimpse, drawing.latents, atol=1e-2 * float(drawing.latents.abs().max()))


def test_between_two_timesteps_lies_what_is_between_them():
    alphas = torch.tensor([1.0, 0.5, 0.25])
    assert [alpha_at(alphas, t) for t in (0, 0.5, 2, 2.5, -1, 999)] == [1.0, 0.75, 0.25, 0.25, 1.0, 0.25]


def test_a_tiny_autoencoder_shows_more(tmp_path):
    torch.manual_seed(0)
    tiny = AutoencoderTiny().eval()
    tiny.save_pretrained(tmp_path / "taesd")
    whole = {name: weight.contiguous() for name, weight in tiny.state_dict().items()}
    save_file(whole, tmp_path / "diffusers.safetensors")
    theirs = {name: weight for name, weight in whole.items() if name.startswith("decoder.layers.")}
    numbered = {_numbered(name.removeprefix("decoder.layers.")): weight for name, weight in theirs.items()}
    save_file(numbered, tmp_path / "taesd_decoder.safetensors")
    latents = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        decoded = tiny.decode(latents).sample
    for name in ("taesd", "diffusers.safetensors", "taesd_decoder.safetensors"):
        decoder = load_tiny_decoder(str(tmp_path / name), torch.device("cpu"), torch.float32)
        assert torch.equal(decoder(latents), decoded)
    assert shown(Previewer("sd1", decoder).jpeg(latents)).shape == (192, 192, 3)


def _numbered(name: str) -> str:
    number, _, rest = name.partition(".")
    return f"{int(number) + 1}.{rest}"


def test_what_is_no_tiny_autoencoder_is_named(tmp_path):
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointUnavailable, match=r"other\.safetensors"):
        load_tiny_decoder(str(tmp_path / "other.safetensors"), torch.device("cpu"), torch.float32)
