"""A picture says how it was made, to people and to programs."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from workers.diffusion import png
from workers.diffusion.request import ImageRequest, Weights

WEIGHTS = Weights("v1-5-pruned-emaonly", "/srv/models/v1-5-pruned-emaonly.safetensors", "sd1", hash="6ce0161689")
PIXELS = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)


def painted(**changes) -> tuple[ImageRequest, Image.Image]:
    values = {
        "weights": WEIGHTS,
        "prompt": "a cat, oil on canvas",
        "negative_prompt": "blurry",
        "width": 24,
        "height": 16,
        "n": 4,
    }
    request = ImageRequest(**values | changes)
    return request, Image.open(io.BytesIO(png.encode(PIXELS, request, seed=7)))


def test_the_pixels_are_not_touched():
    assert np.array_equal(np.asarray(painted()[1]), PIXELS)


def test_parameters_are_written_as_automatic1111_does():
    _, image = painted()
    version = png.versions()["atelier"]
    assert image.text["parameters"] == (
        "a cat, oil on canvas\nNegative prompt: blurry\nSteps: 30, Sampler: Euler a, CFG scale: 7.5, Seed: 7, "
        f"Size: 24x16, Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, Version: atelier {version}"
    )


def test_what_is_not_there_is_not_written():
    text = painted(negative_prompt="", weights=replace(WEIGHTS, hash=""))[1].text["parameters"]
    assert "Negative prompt" not in text
    assert "Model hash" not in text


def test_a_name_with_a_comma_is_quoted():
    assert 'Model: "soft, warm"' in painted(weights=replace(WEIGHTS, name="soft, warm"))[1].text["parameters"]


def test_the_settings_paint_the_same_picture_again():
    request, image = painted()
    settings = json.loads(image.text["atelier"])
    versions = settings.pop("versions")
    assert {"atelier", "torch", "diffusers", "transformers"} == set(versions)
    checkpoint = {name: settings.pop(f"checkpoint_{name}") for name in ("name", "hash")} | {
        "family": settings.pop("family")
    }
    again = ImageRequest(weights=Weights(path=WEIGHTS.path, **checkpoint), **settings)
    assert (again.seed, again.n) == (7, 1)
    assert (again.weights, again.prompt) == (request.weights, request.prompt)
    assert "/srv/models" not in image.text["atelier"]


@pytest.mark.parametrize("prompt", ["一只猫在月亮下", "a café 🌙", "ünïcödé"])
def test_any_language_survives(prompt):
    _, image = painted(prompt=prompt, negative_prompt="模糊")
    assert image.text["parameters"].startswith(f"{prompt}\nNegative prompt: 模糊\n")
    assert json.loads(image.text["atelier"])["prompt"] == prompt


def test_what_no_text_chunk_can_hold_is_left_out():
    _, image = painted(prompt="a\0b\ud83d")
    assert image.text["parameters"].startswith("ab\n")


def test_a_picture_is_enlarged_to_the_size_that_it_is_shown_in():
    _, image = painted(shown_size=(96, 64))
    assert image.size == (96, 64)
    assert "Size: 24x16" in image.text["parameters"]
