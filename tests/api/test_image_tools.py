"""Workflows that were made for other people's image tools, run by ours."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from app.checkpoints.catalogue import SHIPPED_FOLDER
from tests import media
from tests.api.test_runs import events
from tests.api.test_uploads import local, taken, upload
from tests.servers import ROOT, Atelier, running
from tests.unit.drawing import draw, end, field, node, start

GRAPH = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 11,
            "steps": 2,
            "cfg": 7,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1,
            "model": ["10", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "dosmix_.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 2}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "{{positive_prompt}}", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blur", "clip": ["4", 1]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x", "images": ["8", 0]}},
    "10": {"class_type": "LoraLoader", "inputs": {"lora_name": "ink", "model": ["4", 0], "clip": ["4", 1]}},
}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    """A server that paints without torch, with the checkpoints `dosmix_` and `big`, which is what dall-e-3 is here."""
    folder = tmp_path_factory.mktemp("studio")
    for name in ("dosmix_", "big"):
        shutil.copytree(SHIPPED_FOLDER / "atelier-shapes", folder / "checkpoints" / name)
    with running(folder, worker_module="tests.chaos.painter", checkpoint_names='{"dall-e-3": "big"}') as server:
        server.until_ready()
        yield server


def painter(provider: str, tool: str, settings: dict[str, Any], **rest: Any) -> dict[str, Any]:
    parameters = {"prompt": {"type": "mixed", "value": "a {{#start.what#}}"}}
    return node(
        "paint",
        "tool",
        provider_id=provider,
        provider_type="builtin",
        provider_name=provider,
        tool_name=tool,
        tool_configurations=settings,
        **{"tool_parameters": parameters, **rest},
    )


def key_of(server: Atelier, name: str, folder: Path, *nodes: dict[str, Any]) -> str:
    """A key of an app that goes from start through the nodes, one after the other, to end."""
    outputs = {name: ["paint", name] for name in ("text", "files", "json")}
    ids = ["start", *(each["id"] for each in nodes), "end"]
    edges = [f"{source} > {target}" for source, target in pairwise(ids)]
    document = folder / f"{name}.yml"
    document.write_text(draw([start(field("what")), *nodes, end(**outputs)], edges))
    return server.app_key(document)


def run(server: Atelier, key: str, what: str = "cat") -> dict[str, Any]:
    data = server.run({"what": what}, key).json()["data"]
    assert data["status"] == "succeeded", data["error"]
    return dict(data["outputs"])


def test_automatic1111_asks_for_a_checkpoint_and_gets_it(studio: Atelier, tmp_path: Path) -> None:
    settings = {"model": "dosmix_.safetensors [6ce0161689]", "steps": 2, "width": 64, "height": 64}
    key = key_of(studio, "a1111", tmp_path, painter("stablediffusion", "stable_diffusion", settings))
    outputs = run(studio, key)
    assert [file["mime_type"] for file in outputs["files"]] == ["image/png"]
    assert (outputs["text"], outputs["json"][0]["model"]) == ("", "dosmix_")


def test_a_model_that_is_a_service_elsewhere_is_painted_by_what_stands_in(studio: Atelier, tmp_path: Path) -> None:
    size = {"size": {"type": "constant", "value": "square"}}
    paint = painter("langgenius/openai_tool/openai", "dalle3", size, tool_node_version="2")
    (told,) = run(studio, key_of(studio, "dalle", tmp_path, paint))["json"]
    assert (told["asked_model"], told["model"], told["painted_size"]) == ("dall-e-3", "big", [64, 64])


def test_a_model_that_nothing_stands_in_for_is_painted_by_the_default(studio: Atelier, tmp_path: Path) -> None:
    paint = painter("langgenius/stability/stability", "stability_text2image", {"aspect_ratio": "16:9"})
    told = events(
        studio.run({"what": "cat"}, key_of(studio, "stability", tmp_path, paint), response_mode="streaming").text
    )
    (finished,) = [e["data"] for e in told if e["event"] == "node_finished" and e["data"]["node_id"] == "paint"]
    assert finished["outputs"]["json"][0]["model"] == "atelier-shapes"
    assert finished["inputs"]["width"] / finished["inputs"]["height"] == pytest.approx(16 / 9, rel=0.1)
    assert finished["execution_metadata"]["tool_info"] == {
        "provider_type": "builtin",
        "provider_id": "langgenius/stability/stability",
        "plugin_unique_identifier": None,
    }


def test_a_service_whose_answer_lists_pictures_lists_ours(studio: Atelier, tmp_path: Path) -> None:
    paint = painter("siliconflow", "flux", {"image_size": "1024x576", "seed": 8})
    (told,) = run(studio, key_of(studio, "siliconflow", tmp_path, paint))["json"]
    (picture,) = told["images"]
    assert told["seed"] == 8
    assert studio.http.get(picture["url"], headers={"authorization": ""}).content.startswith(b"\x89PNG")


def test_a_comfyui_graph_is_painted_and_what_it_lacks_is_told(studio: Atelier, tmp_path: Path) -> None:
    settings = {"workflow_json": json.dumps(GRAPH), "image_ids": None, "seed_id": None}
    prompts = {"positive_prompt": {"type": "mixed", "value": "a {{#start.what#}}"}}
    paint = painter("comfyui", "workflow", settings, tool_parameters=prompts)
    outputs = run(studio, key_of(studio, "comfyui", tmp_path, paint), 'big "red" cat')
    assert len(outputs["files"]) == 2
    (told,) = outputs["json"]
    (note,) = told.pop("left_out")
    assert note.startswith("the LoRA 'ink' is left out: There is no LoRA 'ink'. None is installed.")
    assert told == {"model": "dosmix_", "seeds": [11, 12], "asked_model": "dosmix_.safetensors"}


def test_a_value_of_the_wrong_kind_is_refused_before_there_is_a_run(studio: Atelier, tmp_path: Path) -> None:
    settings = {"image_num": {"type": "mixed", "value": "{{#start.what#}}"}}
    paint = painter("langgenius/novitaai/novitaai", "novitaai_txt2img", settings)
    answer = studio.run({"what": "many"}, key_of(studio, "novita", tmp_path, paint))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_param")
    assert answer.json()["message"] == "image_num must be an integer from 1 to 10, got 'many'"


def test_a_worker_with_a_clock_does_the_tools_for_dates(studio: Atelier, tmp_path: Path) -> None:
    day = {
        name: {"type": "constant", "value": value} for name, value in {"year": 2024, "month": 2, "day": "29"}.items()
    }
    clock = painter("time", "weekday", {}, tool_parameters=day)
    outputs = run(studio, key_of(studio, "weekday", tmp_path, clock))
    assert outputs == {"text": "February 29, 2024 is Thursday.", "files": [], "json": [{"data": []}]}


@pytest.mark.parametrize(
    ("provider", "tool", "settings", "said"),
    [
        (
            "siliconflow",
            "flux",
            {"model": "schnell"},
            "model 'schnell' is not installed: 'atelier-shapes' paints instead",
        ),
        ("atelier/diffusion", "text_to_image", {"model_name": "gone"}, "There is no checkpoint 'gone'. Installed: "),
        ("stablediffusion", "stable_diffusion", {"lora": "<lora:oil:1>"}, "There is no LoRA 'oil'. None is installed."),
    ],
)
def test_a_check_names_the_models_that_are_not_here(
    studio: Atelier, tmp_path: Path, provider: str, tool: str, settings: dict[str, Any], said: str
) -> None:
    document = tmp_path / "models.yml"
    document.write_text(draw([start(), painter(provider, tool, settings, title="Flux")], ["start > paint"]))
    (warning,) = [line for line in studio.cli("workflows", "check", str(document)).splitlines() if "warning" in line]
    assert warning.startswith("  warning: node 'paint' (Flux): ")
    assert said in warning


@pytest.fixture(scope="module")
def keys(studio: Atelier) -> dict[str, str]:
    """Of apps that are published together: the command takes its time to start."""
    names = ("upscale", "inpaint", "web-picture", "lora")
    told = studio.cli("workflows", "import", *(str(ROOT / f"workflows/{name}.yml") for name in names))
    return dict(zip(names, re.findall(r"^Key: (app-\w+)$", told, re.MULTILINE), strict=True))


def uploaded(server: Atelier, key: str, name: str = "cat.png") -> dict[str, Any]:
    return local(taken(upload(server, key, name, media.picture(size=(96, 72)))))


def test_a_given_picture_goes_to_the_painter_and_comes_back_as_asked(studio: Atelier, keys: dict[str, str]) -> None:
    key = keys["upscale"]
    asked = {"image": uploaded(studio, key), "upscale": 2, "format": "webp"}
    data = studio.run(asked, key).json()["data"]
    assert data["status"] == "succeeded", data["error"]
    (file,) = data["outputs"]["files"]
    assert (file["mime_type"], file["extension"]) == ("image/webp", ".webp")
    given = studio.http.get(file["url"], headers={"authorization": ""}).content
    assert given == media.picture(size=(96, 72))  # the painter enlarges nothing


def test_a_picture_that_is_changed_is_shown_among_the_inputs(studio: Atelier, keys: dict[str, str]) -> None:
    key = keys["inpaint"]
    asked = {"image": uploaded(studio, key), "mask": uploaded(studio, key, "mask.png"), "prompt": "a cat", "steps": 2}
    told = events(studio.run(asked, key, response_mode="streaming").text)
    (finished,) = [e["data"] for e in told if e["event"] == "node_finished" and e["data"]["node_id"] == "paint"]
    assert finished["status"] == "succeeded", finished["error"]
    assert (finished["inputs"]["image"]["filename"], finished["inputs"]["strength"]) == ("cat.png", 1)
    assert finished["outputs"]["json"][0]["model"] == "atelier-shapes"


def test_progress_shows_previews_to_those_who_ask_for_them(studio: Atelier, keys: dict[str, str]) -> None:
    key = keys["web-picture"]
    told = events(studio.run({"prompt": "a cat", "steps": 2}, key, response_mode="streaming").text)
    previews = [e["data"].get("preview") for e in told if e["event"] == "node_progress"]
    assert "data:image/jpeg;base64,/9j/" in "".join(filter(None, previews))
    plain = events(studio.run({"prompt": "a cat", "steps": 2}, response_mode="streaming").text)
    assert not any("preview" in e["data"] for e in plain if e["event"] == "node_progress")


def test_what_can_not_be_painted_is_refused_before_there_is_a_run(studio: Atelier, keys: dict[str, str]) -> None:
    key = keys["lora"]
    for given, said in (
        ({"loras": "oil"}, "There is no LoRA 'oil'. None is installed."),
        ({"loras": "oil:9"}, "loras: the weight of 'oil' must be a number from -5 to 5, got '9'"),
        ({"loras": "oil", "clip_skip": 13}, "clip_skip must be an integer from 1 to 12, got 13"),
    ):
        answer = studio.run({"prompt": "a cat", **given}, key).json()
        assert (answer["status"], answer["code"], answer["params"] in given) == (400, "invalid_param", True)
        assert said in answer["message"]
