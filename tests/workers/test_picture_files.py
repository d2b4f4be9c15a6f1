"""A picture says how it was made, to people and to programs, whatever kind of file it is."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import IFD, Base

from app.domain.recipe import read_recipe
from workers.diffusion.pictures import encoding
from workers.diffusion.request import (
    Control,
    Enlargement,
    EnlargeRequest,
    Hires,
    ImageRequest,
    Lora,
    UsedFile,
    Weights,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
WEIGHTS = Weights("v1-5-pruned-emaonly", "/srv/models/v1-5-pruned-emaonly.safetensors", "sd1", hash="6ce0161689")


def asked(**changes) -> ImageRequest:
    values = {"prompt": "a cat, oil on canvas", "negative_prompt": "blurry", "width": 24, "height": 16, "seed": 7}
    return ImageRequest(**{"weights": WEIGHTS, "n": 4, **values, **changes})


def painted(**changes) -> Image.Image:
    return Image.open(io.BytesIO(encoding.encode(PIXELS, asked(**changes))))


def written(image: Image.Image) -> tuple[str, dict]:
    """The parameters and the settings of any kind of file."""
    if image.format == "PNG":
        return image.text["parameters"], json.loads(image.text["atelier"])
    exif = image.getexif()
    comment = exif.get_ifd(IFD.Exif)[Base.UserComment]
    assert comment.startswith(b"UNICODE\0")
    return comment[8:].decode("utf-16-be"), json.loads(exif[Base.ImageDescription])


def test_the_pixels_are_not_touched():
    assert np.array_equal(np.asarray(painted()), PIXELS)


def test_parameters_are_written_as_automatic1111_does():
    version = encoding.versions()["atelier"]
    assert painted().text["parameters"] == (
        "a cat, oil on canvas\nNegative prompt: blurry\nSteps: 30, Sampler: Euler a, CFG scale: 7.5, Seed: 7, "
        f"Size: 24x16, Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, Version: atelier {version}"
    )


def test_what_is_not_there_is_not_written():
    text = painted(negative_prompt="", weights=replace(WEIGHTS, hash="")).text["parameters"]
    assert "Negative prompt" not in text
    assert "Model hash" not in text


def test_a_name_with_a_comma_is_quoted():
    assert 'Model: "soft, warm"' in painted(weights=replace(WEIGHTS, name="soft, warm")).text["parameters"]


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_every_kind_of_file_says_the_same(format):
    image = painted(format=format, prompt="一只猫 🌙")
    assert image.format == format.upper()
    parameters, settings = written(image)
    assert parameters == painted(prompt="一只猫 🌙").text["parameters"]
    assert (settings["prompt"], settings["seed"], settings["checkpoint"]) == ("一只猫 🌙", 7, "v1-5-pruned-emaonly")
    assert set(settings["versions"]) == {"atelier", "torch", "diffusers", "transformers", "pillow"}


def test_quality_costs_bytes():
    for format in ("jpeg", "webp"):
        small, large = (len(encoding.encode(PIXELS, asked(format=format, quality=q))) for q in (20, 95))
        assert small < large


@pytest.mark.parametrize("length", [40_000, 100_000])
def test_a_jpeg_holds_as_much_of_a_long_prompt_as_it_can(length):
    image = painted(format="jpeg", prompt="猫" * length)
    assert image.getexif().get_ifd(IFD.Exif)[Base.UserComment][8:].decode("utf-16-be").startswith("猫" * 20_000)


def test_the_settings_paint_the_same_picture_again():
    settings = json.loads(painted().text["atelier"])
    for name in ("versions", "checkpoint", "checkpoint_hash", "family"):
        assert settings.pop(name)
    assert ImageRequest(weights=WEIGHTS, **settings) == asked(n=1)


def test_whatever_made_a_picture_is_told_but_no_path_and_no_bytes():
    image = painted(
        weights=replace(WEIGHTS, vae_path="/srv/vae/soft.safetensors"),
        image=b"given",
        mask=b"mask",
        references=(b"other", b"another"),
        clip_skip=2,
        variation_seed=9,
        variation_strength=0.1,
        loras=(Lora("ink", "/srv/loras/ink.safetensors", 0.8),),
        embeddings=(("easynegative", "/srv/embeddings/easynegative.pt"),),
        controls=(Control("canny", "/srv/controlnet/canny.safetensors", b"edges", 0.9),),
        hires=Hires(upscaler="/srv/upscalers/4x.pth"),
        enlarge=Enlargement(2, "/srv/upscalers/4x.pth"),
        files=(UsedFile("lora", "ink", "/srv/loras/ink.safetensors", "0123456789"),),
    )
    parameters, settings = written(image)
    assert parameters.startswith("a cat, oil on canvas <lora:ink:0.8>\n")
    for says in ("Clip skip: 2", "Variation seed: 9", "Variation seed strength: 0.1", "Denoising strength: 0.75"):
        assert says in parameters
    for says in ("VAE: soft", "Hires upscale: 2", "Hires steps: 30", "Hires upscaler: 4x", "Postprocess upscaler: 4x"):
        assert says in parameters
    assert 'ControlNet 0: "Model: canny, Weight: 0.9, Guidance Start: 0, Guidance End: 1"' in parameters
    assert settings["image"] == hashlib.sha256(b"given").hexdigest()
    assert f'Reference 0: "{hashlib.sha256(b"other").hexdigest()}, Weight: 0.35"' in parameters
    assert settings["references"] == [hashlib.sha256(each).hexdigest() for each in (b"other", b"another")]
    assert settings["controls"][0]["image"] == hashlib.sha256(b"edges").hexdigest()
    assert (settings["loras"][0]["name"], settings["embeddings"], settings["vae"]) == ("ink", ["easynegative"], "soft")
    assert "/srv" not in json.dumps([parameters, settings])
    assert read_recipe(json.dumps(settings))[1] == ()  # nothing that a recipe would not know


def test_a_picture_that_was_only_enlarged_names_no_checkpoint():
    request = EnlargeRequest(b"given", Enlargement(2, "/srv/upscalers/4x.pth"), format="webp")
    parameters, settings = written(Image.open(io.BytesIO(encoding.encode(PIXELS, request))))
    assert parameters.startswith("Postprocess upscale by: 2, Postprocess upscaler: 4x, Version: ")
    assert settings["image"] == hashlib.sha256(b"given").hexdigest()
    assert "checkpoint" not in settings


@pytest.mark.parametrize("prompt", ["一只猫在月亮下", "a café 🌙", "ünïcödé"])
def test_any_language_survives(prompt):
    image = painted(prompt=prompt, negative_prompt="模糊")
    assert image.text["parameters"].startswith(f"{prompt}\nNegative prompt: 模糊\n")
    assert json.loads(image.text["atelier"])["prompt"] == prompt


def test_what_no_text_chunk_can_hold_is_left_out():
    assert painted(prompt="a\0b\ud83d").text["parameters"].startswith("ab\n")
