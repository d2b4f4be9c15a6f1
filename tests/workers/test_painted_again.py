"""A picture's own file is enough to make it again, with the checkpoint that ships and files of every kind beside it."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image as Picture

from app.artifacts.said import texts_of
from app.domain.recipe import differences
from app.graph.nodes.kind import WorkerCall
from app.graph.tools import find_tool
from app.graph.tools.image_tool import ImageTool
from app.graph.tools.recipe_text import preferred, read_said
from bench.studio import Studio
from tests.workers.studios import furnished
from workers.diffusion.engine import Engine

PROMPT = "a big yellow star on a blue background"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Studio:
    return furnished(tmp_path_factory.mktemp("studio"), engine)


def picture(studio: Studio, colour: str, hole: str = "") -> dict[str, Any]:
    painted, out = Picture.new("RGB", (64, 64), colour), io.BytesIO()
    if hole:
        painted.paste(hole, (16, 16, 48, 48))
    painted.save(out, "PNG")
    return studio.file(out.getvalue())


def pixels(content: bytes) -> bytes:
    return Picture.open(io.BytesIO(content)).convert("RGB").tobytes()


def said(content: bytes) -> str:
    return preferred(texts_of(io.BytesIO(content)))


def again(studio: Studio, content: bytes, **given: Any) -> bytes:
    """The picture made again, which has nothing else to say of itself."""
    (image,) = studio.paint("again", recipe=said(content), **given)
    recipes = [read_said(said(each))[0] for each in (content, image.content)]
    assert differences(*recipes) == ()
    return image.content


PAINTED = {
    "a picture of a size": {"width": 72, "height": 64, "negative_prompt": "blurry", "scheduler": "dpmpp_2m_sde"},
    "a picture between two seeds": {"variation_seed": 3, "variation_strength": 0.3, "clip_skip": 2},
    "a picture with a LoRA": {"loras": "<lora:ink:0.3:0.8123456789>", "prompt": "a star <lora:ink:-0.25>"},
    "a picture with a taught word": {"prompt": "a big sheriff"},
    "a picture of another autoencoder": {"vae": "sepia", "format": "webp", "quality": 70},
    "a picture with a second pass": {"hires_scale": 1.5, "hires_steps": 2, "hires_upscaler": "by-hand"},
    "a picture that was enlarged": {"upscale": 1.3, "upscaler": "by-hand", "format": "jpeg"},
    "a picture with a second pass of its latents": {"hires_scale": 1.5},
}


@pytest.mark.parametrize("asked", PAINTED.values(), ids=PAINTED.keys())
def test_it_is_painted_again(studio: Studio, asked: dict[str, Any]) -> None:
    call = {"prompt": PROMPT, "seed": 7, "steps": 3, "guidance_scale": 4, "exclusive": True, **asked}
    (first,) = studio.paint("text_to_image", **call)
    assert pixels(again(studio, first.content)) == pixels(first.content)


def test_each_of_several_pictures_is_painted_again(studio: Studio) -> None:
    call = {"prompt": PROMPT, "seed": 7, "steps": 3, "n": 3}
    for asked in (call, call | {"variation_strength": 0.2, "variation_seed": 5}):
        for image in studio.paint("text_to_image", **asked, exclusive=True):
            assert pixels(again(studio, image.content)) == pixels(image.content)


def test_what_was_painted_smaller_than_asked_is_so_again(studio: Studio) -> None:
    tool = find_tool("langgenius/openai_tool/openai", "dalle3")
    assert isinstance(tool, ImageTool)
    call = tool.call({"prompt": PROMPT, "size": "vertical", "n": 1, "seed_id": "1"})
    (first,) = studio.work(WorkerCall("gpu", {**call.inputs, "steps": 2, "exclusive": True}, call.arguments))
    assert (first.width, first.height) == (1024, 1792)
    assert pixels(again(studio, first.content)) == pixels(first.content)


def test_it_begins_with_the_pictures_that_it_began_with(studio: Studio) -> None:
    red, hole = picture(studio, "red"), picture(studio, "black", hole="white")
    call = {"prompt": PROMPT, "seed": 7, "steps": 4, "exclusive": True, "image": red}
    hint = {"control_net": "canny:0.7", "control_image": hole, "control_end": 0.8}
    (changed,) = studio.paint("image_to_image", **call, strength=0.6, **hint)
    (inside,) = studio.paint("inpaint", **call, mask=hole)
    (larger,) = studio.paint("upscale", image=red, upscale=2, upscaler="by-hand")
    (mixed,) = studio.paint("image_to_image", **call, reference=[hole], reference_weight=0.4)
    for image in (changed, inside, larger, mixed):
        assert pixels(again(studio, image.content, given=[hole, red])) == pixels(image.content)


def test_the_text_of_automatic1111_names_taught_words_in_its_prompt_alone(studio: Studio) -> None:
    call = {"prompt": "a big sheriff", "seed": 7, "steps": 3, "guidance_scale": 4, "exclusive": True}
    (first,) = studio.paint("text_to_image", **call)
    text = texts_of(io.BytesIO(first.content))["parameters"]
    (second,) = studio.paint("again", recipe=text)
    assert pixels(second.content) == pixels(first.content)
    assert not [
        each for each in differences(read_said(text)[0], read_said(said(second.content))[0]) if each.was is None
    ]
