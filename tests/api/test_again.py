"""A picture is sent back to the server that painted it, and painted again: the same pixels, or what is otherwise."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import load_file, save_file

from app.checkpoints.catalogue import SHIPPED_FOLDER
from app.ids import new_id
from bench.gallery import made
from tests import media
from tests.api.test_runs import events
from tests.api.test_uploads import local, taken, upload
from tests.servers import ROOT, Atelier, run_command
from workers.diffusion.checkpoint.export import export_single_file

A1111 = (
    "a red star <lora:gone:0.5>\nNegative prompt: blurry\nSteps: 3, Sampler: DPM++ 2M, Schedule type: Karras, "
    "CFG scale: 4, Seed: 7, Size: 64x64, Model hash: 6ce0161689, Model: dreamy, Clip skip: 2, ENSD: 31337, "
    "Version: v1.9.3"
)


def painted(server: Atelier, document: str = "text-to-image", **inputs: Any) -> list[bytes]:
    """The pictures of a run of a document that ships, each painted alone."""
    key = server.app_key(ROOT / f"workflows/{document}.yml")
    asked = {"prompt": "a red star on a blue background", "steps": 3, "seed": 7, "exclusive": True, **inputs}
    data = server.run(asked, key).json()["data"]
    assert data["status"] == "succeeded", data["error"]
    return [server.http.get(file["url"]).content for file in data["outputs"]["files"]]


def from_image(server: Atelier, content: bytes, key: str = "", **more: Any) -> httpx.Response:
    headers = server.bearer(key or server.key) | more.pop("headers", {})
    files, form = {"file": ("picture.png", content, "image/png")}, {"user": "abc-123", **more}
    return server.http.post("/v1/runs/from-image", files=files, data=form, headers=headers)


def again(server: Atelier, content: bytes, key: str = "", **more: Any) -> dict[str, Any]:
    answer = from_image(server, content, key, **more)
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert data["status"] == "succeeded", data["error"]
    return dict(data["outputs"])


def written(text: str) -> bytes:
    """A picture of another server's."""
    chunks, out = PngInfo(), io.BytesIO()
    chunks.add_text("parameters", text)
    Image.new("RGB", (64, 64), "red").save(out, "PNG", pnginfo=chunks)
    return out.getvalue()


def test_the_second_of_two_pictures_is_made_again(atelier: Atelier) -> None:
    _, second = painted(atelier, n=2, guidance_scale=4.25)
    outputs = again(atelier, second)
    assert (outputs["same_pixels"], outputs["differing_pixels"], outputs["greatest_difference"]) == (True, 0, 0)
    assert (outputs["differences"], outputs["notes"], outputs["text"]) == ([], [], "The same pixels.")
    assert len(outputs["files"]) == 1


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_a_lossy_file_is_made_again_to_the_pixel(atelier: Atelier, format: str) -> None:
    (picture,) = painted(atelier, format=format, quality=60)
    assert again(atelier, picture)["same_pixels"] is True


def test_a_picture_with_a_lora_is_made_again_and_without_it_that_is_said(atelier: Atelier) -> None:
    ink = atelier.checkpoints_dir / "loras/ink.safetensors"
    made.make_lora(made.Shipped(), ink, rank=1)
    (picture,) = painted(atelier, loras="ink:1.5")
    assert again(atelier, picture)["same_pixels"] is True
    ink.unlink()
    outputs = again(atelier, picture)
    assert outputs["same_pixels"] is False
    assert {"name": "loras.ink.weight", "was": 1.5, "now": None} in outputs["differences"]
    assert outputs["notes"][0].startswith("the LoRA 'ink' is left out: There is no LoRA 'ink'.")


def test_a_part_painted_anew_is_made_again_by_whoever_has_its_pictures(atelier: Atelier, tmp_path: Path) -> None:
    key = atelier.app_key(ROOT / "workflows/inpaint.yml")
    hole = Image.new("RGB", (64, 64))
    hole.paste("white", (16, 16, 48, 48))
    mask = io.BytesIO()
    hole.save(mask, "PNG")
    given = [media.picture(size=(64, 64)), mask.getvalue()]
    files = [local(taken(upload(atelier, key, "given.png", each, "image/png"))) for each in given]
    (picture,) = painted(atelier, "inpaint", image=files[0], mask=files[1])
    assert again(atelier, picture, key)["same_pixels"] is True
    for stranger in (from_image(atelier, picture), from_image(atelier, picture, key, user="somebody else")):
        assert stranger.status_code == 400
        assert "image (SHA-256 " in stranger.json()["message"]
        assert "mask (SHA-256 " in stranger.json()["message"]
    names = [tmp_path / name for name in ("painted.png", "image.png", "mask.png")]
    for name, content in zip(names, (picture, *given), strict=True):
        name.write_bytes(content)
    words = ("--given", str(names[1]), "--given", str(names[2]), "--url", atelier.url, "--key", atelier.key)
    told = atelier.cli("again", str(names[0]), *words, "--out", str(tmp_path / "again.png"))
    assert told.endswith("The same pixels.")


def test_a_picture_that_is_here_is_named_by_its_id_and_found_in_its_app_alone(atelier: Atelier) -> None:
    run = atelier.run({"prompt": "a blue ring", "steps": 2, "exclusive": True}).json()["data"]
    artifact = run["outputs"]["files"][0]["related_id"]
    body = {"artifact": artifact, "user": "abc-123"}
    answer = atelier.http.post("/v1/runs/from-image", json=body).json()
    assert answer["data"]["outputs"]["same_pixels"] is True
    other = atelier.bearer(atelier.app_key(ROOT / "workflows/echo.yml"))
    for asked in (body, {**body, "artifact": "x"}, {**body, "artifact": new_id()}):
        assert atelier.http.post("/v1/runs/from-image", json=asked, headers=other).json()["code"] == "file_not_found"


def test_another_file_under_the_checkpoints_name_is_told(atelier: Atelier) -> None:
    path = atelier.checkpoints_dir / "changing.safetensors"
    export_single_file(SHIPPED_FOLDER / "atelier-shapes", path)
    (picture,) = painted(atelier, model_name="changing")
    weights = load_file(path)
    weights["model.diffusion_model.out.2.weight"] *= 1.1
    save_file(weights, path)
    outputs = again(atelier, picture)
    (changed,) = outputs["differences"]
    assert changed["name"] == "checkpoint_hash"
    assert outputs["differing_pixels"] > 0
    path.unlink()
    assert "There is no checkpoint 'changing'" in from_image(atelier, picture).json()["message"]
    (instead, *_) = again(atelier, picture, model_name="atelier-shapes")["differences"]
    assert instead == {"name": "checkpoint", "was": "changing", "now": "atelier-shapes"}


def test_a_run_from_a_picture_is_a_run_like_any_other(atelier: Atelier) -> None:
    (picture,) = painted(atelier)
    named = {"headers": {"idempotency-key": new_id()}, "response_mode": "async"}
    first, second = (from_image(atelier, picture, **named) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    run = atelier.until_ended(first.json()["id"])
    assert (run["id"], run["outputs"]["same_pixels"]) == (second.json()["id"], True)
    logged = atelier.http.get("/v1/workflows/logs").json()["data"]
    assert run["id"] in [each["workflow_run"]["id"] for each in logged]
    told = events(from_image(atelier, picture, response_mode="streaming").text)
    assert told[-1]["data"]["outputs"]["same_pixels"] is True


def test_a_picture_of_automatic1111_is_made_as_far_as_its_text_goes(atelier: Atelier) -> None:
    outputs = again(atelier, written(A1111))
    assert outputs["same_pixels"] is False
    assert {"name": "checkpoint", "was": "dreamy", "now": "atelier-shapes"} in outputs["differences"]
    assert any(note.startswith("the LoRA 'gone' is left out") for note in outputs["notes"])
    assert "'ENSD' (31337) is not taken over" in outputs["notes"]
    said = Image.open(io.BytesIO(atelier.http.get(outputs["files"][0]["url"]).content)).text["atelier"]
    made_with = json.loads(said)
    assert (made_with["prompt"], made_with["sampler"], made_with["clip_skip"]) == ("a red star ", "dpmpp_2m_karras", 2)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"no picture at all", "no PNG, JPEG or WebP"),
        (media.picture()[:20], "no PNG, JPEG or WebP"),
        (media.picture(), "says nothing about how it was made"),
        (written("a cat"), "no line 'Steps"),
        (written("Steps: 20, Size: 9999x64, Sampler: Euler"), "`int` <= 2048"),
        (written("Steps: many, Size: 64x64, Sampler: Euler"), "'Steps' is no number"),
        (written('{"checkpoint": "atelier-shapes"}'), "The recipe lacks width, height"),
        (written('{"prompt": "a cat", "Steps": 30}'), "The recipe is none of Atelier's"),
        (written('{"checkpoint": ' + "[" * 5000), "The recipe can't be read"),
    ],
    ids=["text", "cut", "silent", "words", "huge", "wrong", "poor", "foreign", "deep"],
)
def test_what_no_picture_could_come_of_is_refused(atelier: Atelier, content: bytes, says: str) -> None:
    answer = from_image(atelier, content)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_param")
    assert says in answer.json()["message"]


def test_a_picture_that_ends_too_early_is_made_again_but_not_compared(atelier: Atelier) -> None:
    (picture,) = painted(atelier)
    outputs = again(atelier, picture[:-2000])
    assert (outputs["same_pixels"], len(outputs["files"])) == (None, 1)
    assert outputs["notes"][0].startswith("The picture in the file can't be decoded: ")


def test_a_file_of_another_size_than_it_says_is_told_so_and_not_decoded(atelier: Atelier) -> None:
    (picture,) = painted(atelier)
    chunks, out = PngInfo(), io.BytesIO()
    chunks.add_text("atelier", Image.open(io.BytesIO(picture)).text["atelier"])
    Image.new("1", (9000, 9000)).save(out, "PNG", pnginfo=chunks)
    outputs = again(atelier, out.getvalue())
    assert (outputs["same_pixels"], outputs["text"]) == (False, "Another size.")
    assert outputs["notes"] == ["The file has 9000 x 9000 pixels, and the new picture 64 x 64."]


def test_a_picture_of_the_longest_prompt_is_made_again(atelier: Atelier) -> None:
    (picture,) = painted(atelier, prompt="a star" + " " * 12_000, steps=1)
    assert again(atelier, picture)["same_pixels"] is True


def test_a_request_names_its_user_and_one_picture(atelier: Atelier) -> None:
    for body in ({"user": "u"}, {"artifact": new_id()}, {"user": "u", "artifact": new_id(), "upload_file_id": "x"}):
        assert atelier.http.post("/v1/runs/from-image", json=body).json()["code"] == "invalid_param"


def test_the_command_makes_a_picture_again_and_says_what_differs(atelier: Atelier, tmp_path: Path) -> None:
    (picture,) = painted(atelier, exclusive=False)
    first, second, other = (tmp_path / f"{name}.png" for name in ("first", "second", "other"))
    first.write_bytes(picture)
    words = ("--url", atelier.url, "--key", atelier.key, "--out", str(second))
    told = atelier.cli("again", str(first), *words).splitlines()
    assert told[-2:] == [str(second), "The same pixels."]
    assert Image.open(second).tobytes() == Image.open(first).tobytes()
    other.write_bytes(written(A1111))
    done = run_command(atelier.env, "again", str(other), *words)
    assert done.status == 1
    assert "- checkpoint was dreamy, and is atelier-shapes" in done.stdout
    elsewhere = ("--url", f"{atelier.url}/llamago", "--key", atelier.key)
    assert "404, and not as Atelier does" in run_command(atelier.env, "again", str(first), *elsewhere).stderr
    done = run_command(atelier.env, "again", str(tmp_path / "nothing.png"), *words)
    assert (done.status, done.stderr.endswith("nothing.png can't be read: No such file or directory.\n")) == (1, True)


def test_the_command_shows_a_recipe_without_a_server(web: Atelier, tmp_path: Path) -> None:
    picture = tmp_path / "other.png"
    picture.write_bytes(written(A1111))
    told = web.cli("again", "--show", str(picture))
    recipe, end = json.JSONDecoder().raw_decode(told)
    assert (recipe["checkpoint"], recipe["steps"], recipe["sampler"]) == ("dreamy", 3, "dpmpp_2m_karras")
    assert told[end:].strip() == "- 'ENSD' (31337) is not taken over"
