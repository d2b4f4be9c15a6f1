"""Other families begin with pictures, too: SDXL, velocity, and checkpoints made for inpainting."""

from __future__ import annotations

import io

import numpy as np
import pytest
from diffusers import (
    DPMSolverMultistepScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from tests.workers.families import small_checkpoint
from tests.workers.plain import painted_by_diffusers
from tests.workers.test_controls import new_net, original_names
from workers.diffusion.request import Control, Weights

SIDE = 32


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    made = {}

    def folder(family):
        if family not in made:
            made[family] = small_checkpoint(family, tmp_path_factory.mktemp(family)).folder
        return made[family]

    return folder


@pytest.fixture(scope="module")
def scene() -> Image.Image:
    picture = Image.new("RGB", (SIDE, SIDE), (40, 70, 215))
    ImageDraw.Draw(picture).ellipse((4, 6, 20, 22), (220, 40, 40))
    return picture


@pytest.fixture(scope="module")
def mask() -> Image.Image:
    picture = Image.new("L", (SIDE, SIDE), 0)
    picture.paste(255, (8, 8, 24, 20))
    return picture


def png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def theirs(kind, request, parts=None, **more) -> np.ndarray:
    plain, options = StableDiffusionXLPipeline, {}
    if not kind.__name__.startswith("StableDiffusionXL"):
        plain, options = StableDiffusionPipeline, {"requires_safety_checker": False}
    own = plain.from_pretrained(request.weights.path, local_files_only=True, **options).components
    pipeline = kind(**own, **(parts or {}), **options)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    size = {} if kind is StableDiffusionXLImg2ImgPipeline else {"width": SIDE, "height": SIDE}
    return painted_by_diffusers(pipeline, request, **size, **more)


def furthest(made, expected, where=...) -> int:
    pixels = np.asarray(Image.open(io.BytesIO(made.images[0].content))).astype(int)
    return int(np.abs(pixels - expected)[where].max())


@pytest.fixture
def small_ask(ask, small):
    def build(family, **changes):
        folder = small(family)
        values = {"weights": Weights(family, str(folder), family), "width": SIDE, "height": SIDE, "sampler": "dpmpp_2m"}
        return ask(path=folder, **values | changes)

    return build


def test_sdxl_paints_texts_pictures_and_parts_of_them_in_one_batch(at_once, small_ask, scene, mask):
    image, hole, inside = png(scene), png(mask), np.asarray(mask) > 0
    text = small_ask("sdxl")
    whole = small_ask("sdxl", image=image, strength=0.5, steps=6, seed=1)
    part = small_ask("sdxl", image=image, mask=hole, strength=0.75, seed=2)
    made = at_once([text, whole, part])
    assert furthest(made[0], theirs(StableDiffusionXLPipeline, text)) <= 1
    expected = theirs(StableDiffusionXLImg2ImgPipeline, whole, image=scene, strength=0.5)
    assert furthest(made[1], expected) <= 1
    expected = theirs(StableDiffusionXLInpaintPipeline, part, image=scene, mask_image=mask, strength=0.75)
    assert furthest(made[2], expected, inside) <= 1


def test_sdxl_follows_a_control_net_beside_one_that_does_not(at_once, small_ask, small, mask, tmp_path):
    """Read from a single file with its author's names, sizes and pooled prompt included."""
    unet = UNet2DConditionModel.from_pretrained(small("sdxl"), subfolder="unet", local_files_only=True)
    net = new_net(unet)
    save_file(original_names(net, unet), tmp_path / "edges.safetensors")
    control = Control("edges", str(tmp_path / "edges.safetensors"), png(mask), 0.7)
    free, steered = small_ask("sdxl"), small_ask("sdxl", controls=(control,), seed=1)
    made = at_once([free, steered])
    assert furthest(made[0], theirs(StableDiffusionXLPipeline, free)) <= 1
    more = {"image": mask.convert("RGB"), "controlnet_conditioning_scale": 0.7}
    expected = theirs(StableDiffusionXLControlNetPipeline, steered, parts={"controlnet": net}, **more)
    assert furthest(made[1], expected) <= 1


@pytest.mark.parametrize(
    ("family", "kind"),
    [("sd2-inpaint", StableDiffusionInpaintPipeline), ("sdxl-inpaint", StableDiffusionXLInpaintPipeline)],
)
def test_what_was_made_for_inpainting_repaints_as_in_diffusers(family, kind, engine, small_ask, scene, mask):
    request = small_ask(family, image=png(scene), mask=png(mask), strength=0.75)
    expected = theirs(kind, request, image=scene, mask_image=mask, strength=0.75)
    assert furthest(engine.paint(request), expected, np.asarray(mask) > 0) <= 1
