"""Each document of `workflows/` that paints, painted by the engine with the checkpoint that ships."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from app.graph.graph import load_graph
from app.graph.variables import VariablePool
from bench.studio import Studio
from tests.servers import ROOT
from tests.workers.studios import furnished
from workers.diffusion.engine import Engine

PROMPT = "a big yellow star on a blue background"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Studio:
    return furnished(tmp_path_factory.mktemp("studio"), engine)


def files(studio: Studio, document: str, **inputs: Any) -> list[bytes]:
    """What the document's paint node makes of these inputs of a run."""
    graph = load_graph((ROOT / f"workflows/{document}.yml").read_text())
    pool = VariablePool.of({"start": {"seed": 7, "steps": 3, "guidance_scale": 4, **inputs}})
    return [image.content for image in studio.work(graph.nodes["paint"].work.execute(pool))]


def paint(studio: Studio, document: str, **inputs: Any) -> np.ndarray:
    (made,) = files(studio, document, **{"prompt": PROMPT, **inputs})
    return pixels(made)


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Picture.open(io.BytesIO(content)).convert("RGB")).astype(int)


def picture(studio: Studio, colour: str, size: tuple[int, int] = (64, 64), hole: str = "") -> dict[str, Any]:
    """A plain one; `hole`: with a square of that colour in the middle."""
    made, out = Picture.new("RGB", size, colour), io.BytesIO()
    if hole:
        made.paste(hole, (16, 16, 48, 48))
    made.save(out, "PNG")
    return studio.file(out.getvalue())


@pytest.fixture(scope="module")
def plain(studio: Studio) -> np.ndarray:
    return paint(studio, "text-to-image")


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())


def test_a_prompt_is_painted(plain: np.ndarray) -> None:
    assert plain.shape == (64, 64, 3)


def test_a_picture_is_painted_anew_as_far_as_the_strength_says(studio: Studio) -> None:
    image = picture(studio, "red")
    near, far = (paint(studio, "image-to-image", image=image, strength=each) for each in (0.4, 1))
    red = np.array([255, 0, 0])
    assert apart(near, red) < apart(far, red)
    assert paint(studio, "image-to-image", image=picture(studio, "red", (80, 48)), strength=0.4).shape == (64, 80, 3)


def test_other_dialects_edit_and_vary_with_the_same_tool(studio: Studio) -> None:
    given = {"image": picture(studio, "red"), "strength": 0.6}
    edited, varied = paint(studio, "image-edit", **given), paint(studio, "image-variation", **given, prompt="")
    assert apart(edited, paint(studio, "image-to-image", **given)) == 0
    assert apart(varied, edited) > 1


def test_what_a_mask_leaves_stays_to_the_last_bit(studio: Studio) -> None:
    image, mask = picture(studio, "red"), picture(studio, "black", hole="white")
    changed = (paint(studio, "inpaint", image=image, mask=mask) != [255, 0, 0]).any(2)
    assert changed[16:48, 16:48].mean() > 0.9
    changed[16:48, 16:48] = False
    assert not changed.any()


def test_variations_are_all_a_little_otherwise(studio: Studio, plain: np.ndarray) -> None:
    four = files(studio, "variations", prompt=PROMPT, variation_strength=0.3, variation_seed=1)
    assert len(set(four)) == len(four) == 4
    assert 0 < apart(pixels(four[0]), plain) < 128


def test_a_second_pass_is_larger(studio: Studio) -> None:
    assert paint(studio, "hires-fix", hires_scale=1.5, hires_strength=0.5, hires_steps=2).shape == (96, 96, 3)


def test_a_picture_is_enlarged(studio: Studio) -> None:
    image = picture(studio, "red", (40, 30))
    (lanczos,) = files(studio, "upscale", image=image)
    (by_hand,) = files(studio, "upscale", image=image, upscale=4, upscaler="by-hand")
    assert (pixels(lanczos).shape, pixels(by_hand).shape) == ((60, 80, 3), (120, 160, 3))
    assert apart(pixels(by_hand)[8:-8, 8:-8], np.array([255, 0, 0])) < 2


def test_a_controlnet_is_heard_as_far_as_its_weight_says(studio: Studio, plain: np.ndarray) -> None:
    hint = {"control_net": "canny", "control_image": picture(studio, "black", hole="white")}
    assert apart(paint(studio, "controlnet", **hint, control_weight=0), plain) <= 1
    assert apart(paint(studio, "controlnet", **hint, control_weight=2), plain) > 1


def test_a_lora_is_put_on_for_one_request_alone(studio: Studio, plain: np.ndarray) -> None:
    prompt = "a big red star on a blue background"
    bare = paint(studio, "text-to-image", prompt=prompt)
    assert apart(paint(studio, "lora", prompt=prompt, loras="ink:2"), bare) > 1
    assert apart(paint(studio, "lora", prompt=prompt, loras="ink:0"), bare) <= 1
    assert apart(paint(studio, "text-to-image"), plain) <= 1


def test_another_autoencoder_finishes_the_picture(studio: Studio) -> None:
    old = paint(studio, "vae", vae="sepia").mean((0, 1))
    assert old[0] > old[1] > old[2]  # brown, where the plain one is mostly blue


def test_a_taught_word_means_what_it_was_made_of(studio: Studio) -> None:
    taught = paint(studio, "textual-inversion", prompt="a big one", word="sheriff")
    said = paint(studio, "textual-inversion", prompt="a big one", word="yellow star")
    assert np.abs(taught - said).max() <= 1


@pytest.mark.parametrize(("format", "mark"), [("webp", b"WEBPVP8"), ("jpeg", b"\xff\xd8\xff")])
def test_a_picture_for_a_page_is_a_small_file(studio: Studio, format: str, mark: bytes) -> None:
    (made,) = files(studio, "web-picture", prompt=PROMPT, format=format, quality=60)
    assert mark in made[:20]
    assert len(made) < 8000


def test_there_is_a_test_for_each_document() -> None:
    text = Path(__file__).read_text()
    elsewhere = {"echo", "again", "keep-checkpoint", "style-preset", "text-to-image-translated"}
    documents = {path.stem for path in (ROOT / "workflows").glob("*.yml")} - elsewhere
    assert {name for name in documents if f'"{name}"' not in text} == set()
