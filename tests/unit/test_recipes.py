"""What pictures say of themselves, in Atelier's words and in those of others."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from typing import Any

import pytest
from PIL import Image
from PIL.ExifTags import IFD, Base

from app.artifacts.said import texts_of
from app.domain.recipe import Recipe, UsedFile, UsedLora, differences, read_recipe
from app.errors import InvalidParam
from app.graph.tools.again import AGAIN
from app.graph.tools.recipe_text import preferred, read_said

LINE = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 4294967295, Size: 512x768, Model: dreamy, Version: v1.9.3"
OURS: dict[str, Any] = {
    "checkpoint": "dreamy",
    "width": 64,
    "height": 64,
    "steps": 4,
    "guidance_scale": 7,
    "seed": 1,
    "sampler": "euler",
    "versions": {"atelier": "0.1.0", "torch": "2.13.0"},
}


def test_a_text_of_automatic1111_is_read_with_its_lines() -> None:
    recipe, notes = read_said(f"a cat,\nred: very\nNegative prompt: blurry,\nbad\n{LINE}")
    assert (recipe.prompt, recipe.negative_prompt) == ("a cat,\nred: very", "blurry,\nbad")
    assert (recipe.steps, recipe.guidance_scale, recipe.seed, recipe.sampler) == (20, 7.0, 4294967295, "euler_a")
    assert (recipe.width, recipe.height, recipe.checkpoint, recipe.is_ours) == (512, 768, "dreamy", False)
    assert notes == ()


def test_a_prompt_of_automatic1111_may_begin_with_a_brace() -> None:
    assert read_said(f"{{{{cat}}}}, {{dog|bird}}\n{LINE}")[0].prompt == "{{cat}}, {dog|bird}"


def test_a_second_pass_without_steps_has_as_many_as_the_first() -> None:
    without, counted = (json.dumps(OURS | {"hires": {"scale": 2} | more}) for more in ({}, {"steps": 4}))
    assert AGAIN.call({"recipe": without}).inputs["hires_steps"] == 4
    assert differences(read_recipe(without)[0], read_recipe(counted)[0]) == ()


def test_the_second_pass_of_automatic1111_is_read_by_its_scale_or_its_size() -> None:
    more = 'Denoising strength: 0.4, Hires upscale: 1.5, Hires steps: 8, Hires upscaler: "4x, sharp"'
    hires = read_said(f"x\n{LINE}, {more}")[0].hires
    assert hires is not None
    assert (hires.scale, hires.strength, hires.steps, hires.upscaler) == (1.5, 0.4, 8, "4x, sharp")
    resized, notes = read_said(f"x\n{LINE}, Hires resize: 0x1536, Hires upscaler: Latent (nearest)")
    assert (resized.hires and resized.hires.scale, resized.hires and resized.hires.upscaler) == (2.0, "latent")
    assert notes == ("the upscaler 'Latent (nearest)' is not here: latent enlarges in its place",)


def test_what_a_text_does_not_say_or_nobody_knows_here_is_told() -> None:
    recipe, notes = read_said(f"a <lora:ink:0.5:0.7> b\n{LINE}, Denoising strength: 0.5, ADetailer model: face")
    assert (recipe.prompt, recipe.loras) == ("a b", (UsedLora("ink", 0.7, 0.5),))
    assert notes == (
        "it began with another picture, which the text does not name: it is painted from words",
        "'ADetailer model' (face) is not taken over",
    )
    (nearest,) = read_said(LINE.replace("Euler a", "Restart"))[1]
    assert nearest == "sampler 'Restart' is not here: heun paints in its place"


@pytest.mark.parametrize("order", ["utf-16-be", "utf-16-le"])
@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_the_comment_of_a_lossy_file_is_read_in_both_orders(order: str, format: str) -> None:
    exif, file = Image.Exif(), io.BytesIO()
    exif.get_ifd(IFD.Exif)[Base.UserComment] = b"UNICODE\0" + f"一只猫\n{LINE}".encode(order)
    Image.new("RGB", (8, 8)).save(file, format, exif=exif.tobytes())
    assert read_said(preferred(texts_of(file)))[0].prompt == "一只猫"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"steps": 100_000}, "<= 150"),
        ({"width": 65}, "multiple of 8"),
        ({"image": "../../etc/passwd"}, "matching regex"),
        ({"loras": [{"name": "x"}] * 17}, "length <= 16"),
        ({"steps": 0}, ">= 1"),
        ({"prompt": "x" * 32_001}, "length <= 32000"),
        ({"controls": [{"name": "canny", "image": "0" * 64, "start": 0.5, "end": 0.5}]}, "'canny' ends before it beg"),
        ({"mask": "0" * 64}, "has mask, and no image"),
        ({"seed": None}, "lacks seed"),
        ({"guidance_scale": float("inf")}, "malformed"),
    ],
)
def test_a_recipe_that_is_beyond_all_bounds_is_refused(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidParam, match=says):
        read_recipe(json.dumps({**OURS, **changed}))


def test_what_nobody_knows_in_a_recipe_is_named() -> None:
    more = {"hires": {"scale": 2, "grain": 1}, "loras": [{"name": "ink", "x": 1}], "later": 2}
    recipe, strangers = read_recipe(json.dumps(OURS | more))
    assert strangers == ("hires.grain", "loras.x", "later")
    assert recipe.hires is not None
    assert read_recipe(recipe.to_json()) == (recipe, ())


def test_only_what_the_first_one_says_can_be_otherwise() -> None:
    was, now = (read_recipe(json.dumps(OURS | more))[0] for more in ({}, {"device": "H100", "dtype": "float16"}))
    assert differences(was, now) == ()
    (dtype,) = differences(now, Recipe(**{**{n: getattr(now, n) for n in now.__struct_fields__}, "dtype": "float32"}))
    (slow,) = differences(was, read_recipe(json.dumps(OURS | {"without": ["fused"]}))[0])
    assert (slow.name, slow.was, slow.now) == ("without", None, ["fused"])
    assert dtype.sentence == "dtype was float16, and is float32"


def test_what_does_nothing_is_no_difference() -> None:
    theirs, _ = read_said("x\nSteps: 4, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 64x64")
    ours, _ = read_recipe(json.dumps(OURS | {"prompt": "x", "strength": 0.5}))
    assert [each.sentence for each in differences(theirs, ours)] == ["checkpoint is dreamy, and was not there"]
    assert [each.name for each in differences(ours, theirs)] == ["checkpoint", "versions.atelier", "versions.torch"]
    (gone,) = differences(
        read_recipe(json.dumps(OURS | {"loras": [{"name": "ink"}]}))[0], read_recipe(json.dumps(OURS))[0]
    )
    assert gone.sentence == "loras.ink.weight was 1.0, and is not there"


def test_a_short_hash_is_the_beginning_of_a_long_one() -> None:
    def ink(sha256: str) -> Recipe:
        return Recipe(checkpoint="x", files=(UsedFile("lora", "ink", sha256),))

    assert differences(ink("6CE0161689"), ink("6ce0161689" + "0" * 54)) == ()
    (other,) = differences(ink("6ce0161689"), ink("7ce0161689"))
    assert (other.name, other.was, other.now) == ("files.lora ink", "6ce0161689", "7ce0161689")


@pytest.mark.timeout(20)  # it would be minutes
@pytest.mark.parametrize(
    "text", ["<lora:" * 20_000, "a" * 100_000, 'a:"' * 30_000, "Steps: 1" + ", a: " * 30_000, " " * 90_000]
)
def test_no_text_keeps_a_server_busy(text: str) -> None:
    for each in (text, f"{text}\nSteps: 1", f"x\nSteps: {text}"):
        with suppress(InvalidParam):
            read_said(each)
