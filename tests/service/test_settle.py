"""Which checkpoint paints, and in which size, where a workflow names somebody else's model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from app.checkpoints.catalogue import SHIPPED_FOLDER, Catalogue, bare_name
from app.errors import CheckpointUnavailable, InvalidParam
from app.graph.nodes.kind import WorkerCall
from app.runs.settle import SettleImages
from tests.adapters import dress, lora
from tests.workers.headers import write

SHAPES = SHIPPED_FOLDER / "atelier-shapes"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("dosmix_", "flux.1-dev"):
        shutil.copytree(SHAPES, tmp_path / name)
    return tmp_path


def settled(folder: Path, names: dict[str, str] | None = None, **inputs: Any) -> dict[str, Any]:
    return settled_call(folder, {"prompt": "a cat", "steps": 2, "n": 1, **inputs}, names, {"fits": True})


def settled_call(
    folder: Path, inputs: dict[str, Any], names: dict[str, str] | None = None, arguments: dict[str, Any] | None = None
) -> dict[str, Any]:
    settle = SettleImages(Catalogue([folder, SHIPPED_FOLDER]), names or {})
    return dict(settle(WorkerCall("gpu", inputs, arguments or {})).inputs)


@pytest.mark.parametrize(
    ("asked", "painter"),
    [
        ("dosmix_", "dosmix_"),
        ("dosmix_.safetensors", "dosmix_"),
        ("SD\\1.5/dosmix_.ckpt [6ce0161689]", "dosmix_"),
        ("flux.1-dev", "flux.1-dev"),
        ("kolors", "atelier-shapes"),
        ("../../etc/passwd", "atelier-shapes"),
    ],
)
def test_a_model_is_painted_by_the_checkpoint_of_its_name_or_the_default(
    folder: Path, asked: str, painter: str
) -> None:
    assert settled(folder, asked_model=asked)["model_name"] == painter


def test_the_names_in_the_settings_count_first(folder: Path) -> None:
    names = {"kolors": "dosmix_", "*": "flux.1-dev"}
    models = [settled(folder, names, asked_model=asked)["model_name"] for asked in ("kolors", "sd_3", "dosmix_")]
    assert models == ["dosmix_", "flux.1-dev", "dosmix_"]


def test_a_name_in_the_settings_that_leads_nowhere_is_said(folder: Path) -> None:
    with pytest.raises(CheckpointUnavailable, match="There is no checkpoint 'gone'"):
        settled(folder, {"kolors": "gone"}, asked_model="kolors")


def test_a_name_of_our_own_tool_is_taken_at_its_word(folder: Path) -> None:
    with pytest.raises(CheckpointUnavailable):
        settled(folder, {"*": "dosmix_"}, model_name="kolors")


@pytest.mark.parametrize(("ratio", "size"), [("1:1", (64, 64)), ("16:9", (88, 48)), ("2:3", (56, 80))])
def test_a_ratio_has_the_checkpoints_own_number_of_pixels(folder: Path, ratio: str, size: tuple[int, int]) -> None:
    inputs = settled(folder, aspect_ratio=ratio)
    assert (inputs["width"], inputs["height"]) == size
    assert "painted_size" not in inputs


def test_far_more_pixels_than_a_checkpoint_knows_are_painted_small_and_enlarged(folder: Path) -> None:
    assert settled(folder, width=1024, height=1792)["painted_size"] == (48, 88)
    assert "painted_size" not in settled(folder, width=128, height=128)


def test_a_bare_name_keeps_its_dots() -> None:
    assert bare_name("Qwen/Qwen-Image-2.0") == "Qwen-Image-2.0"


FILE = {
    "__artifact__": "1",
    "filename": "a.png",
    "extension": ".png",
    "mime_type": "image/png",
    "size": 1,
    "sha256": "0",
}


@pytest.fixture
def dressed(folder: Path) -> Path:
    dress(folder)
    lora(folder, "pixel art")
    return folder


def asked(folder: Path, **inputs: Any) -> dict[str, Any]:
    """As our own tool is settled, which takes every name at its word."""
    return settled_call(folder, {"prompt": "a cat", "n": 1, **inputs})


def test_what_is_left_open_is_settled(folder: Path) -> None:
    inputs = asked(folder)
    assert inputs.pop("seed") >= 0
    assert inputs == {
        "prompt": "a cat",
        "n": 1,
        "model_name": "atelier-shapes",
        "width": 64,
        "height": 64,
        "steps": 30,
        "guidance_scale": 4.0,
        "scheduler": "dpmpp_2m",
    }


def test_loras_of_the_prompt_and_of_the_parameter_are_found(dressed: Path) -> None:
    inputs = asked(dressed, prompt="a <lora:pixel art:0.5:1> cat", loras="ink.safetensors:-1")
    assert inputs["loras"] == [
        {"name": "ink", "weight": -1},
        {"name": "pixel art", "weight": 1, "text_weight": 0.5},
    ]
    assert "loras" not in asked(dressed)


@pytest.mark.parametrize(
    ("parameter", "inputs"),
    [
        ("loras", {"loras": "oil"}),
        ("prompt", {"prompt": "a cat <lora:oil:1>"}),
        ("vae", {"vae": "hard"}),
        ("control_net", {"control_net": "depth", "control_image": [FILE]}),
        ("upscaler", {"upscale": 2, "upscaler": "x8"}),
        ("hires_upscaler", {"hires_scale": 2, "hires_upscaler": "x8"}),
    ],
)
def test_a_file_that_is_not_here_is_refused_by_the_parameters_name(
    dressed: Path, parameter: str, inputs: dict[str, Any]
) -> None:
    with pytest.raises(CheckpointUnavailable) as refusal:
        asked(dressed, **inputs)
    assert refusal.value.params == parameter


def test_a_lora_for_checkpoints_of_another_family_is_refused(dressed: Path) -> None:
    lora(dressed, "photo", width=768)
    with pytest.raises(CheckpointUnavailable, match="'photo' is for sd1 checkpoints, and this one is shapes"):
        asked(dressed, loras="photo")


def test_a_models_card_says_what_a_request_leaves_open(dressed: Path) -> None:
    (dressed / "dosmix_.toml").write_text('width = 96\nheight = 64\nsteps = 12\nsampler = "ddim"\nclip_skip = 2\n')
    inputs = asked(dressed, model_name="dosmix_")
    assert (inputs["width"], inputs["height"], inputs["steps"]) == (96, 64, 12)
    assert (inputs["scheduler"], inputs["clip_skip"]) == ("ddim", 2)


def test_what_another_servers_workflow_asks_for_and_is_not_here_is_left_out_and_said(dressed: Path) -> None:
    inputs = settled(dressed, prompt="a <lora:oil:1> cat", loras="ink", vae="hard")
    assert [lora["name"] for lora in inputs["loras"]] == ["ink"]
    assert "vae" not in inputs
    assert [note.split(" is left out")[0] for note in inputs["left_out"]] == [
        "the autoencoder 'hard'",
        "the LoRA 'oil'",
    ]


def test_a_textual_inversion_is_worn_where_a_prompt_says_its_name(dressed: Path) -> None:
    assert asked(dressed, negative_prompt="(Bad-Hands:1.2), blur")["embeddings"] == ["bad-hands"]
    assert "embeddings" not in asked(dressed, negative_prompt="bad-hands-2")
    write(dressed / "embeddings/wide.safetensors", {"emb_params": [4, 768]})
    other = asked(dressed, prompt="a wide road")
    assert "embeddings" not in other
    assert other["left_out"] == [
        "the textual inversion 'wide' is left out: it is for sd1 checkpoints, and this one is shapes."
    ]


def test_a_variation_without_a_seed_of_its_own_draws_one(folder: Path) -> None:
    inputs = asked(folder, variation_strength=0.2)
    assert inputs["variation_seed"] >= 0
    assert "variation_seed" not in asked(folder, variation_seed=7)


def test_a_second_pass_is_said_in_full(dressed: Path) -> None:
    second = {name: value for name, value in asked(dressed, hires_scale=2, steps=10).items() if "hires" in name}
    assert second == {"hires_scale": 2, "hires_strength": 0.5, "hires_steps": 10, "hires_upscaler": "latent"}
    assert asked(dressed, hires_scale=2, hires_upscaler="x4")["hires_upscaler"] == "x4"
    assert not [name for name in asked(dressed, hires_scale=1, hires_steps=3) if "hires" in name]


def test_each_controlnet_has_its_picture_and_its_weight(dressed: Path) -> None:
    inputs = asked(dressed, control_net="canny:0.5, canny", control_image=[FILE], control_weight=0.8, control_end=0.6)
    assert inputs["control_net"] == [{"name": "canny", "weight": 0.5}, {"name": "canny", "weight": 0.8}]
    assert (inputs["control_image"], inputs["control_start"], inputs["control_end"]) == ([FILE, FILE], 0.0, 0.6)


@pytest.mark.parametrize(
    ("said", "inputs"),
    [
        ("strength: 0.02 of 20 steps leaves none to paint", {"image": FILE, "strength": 0.02, "steps": 20}),
        ("hires_strength: 0.1 of 5 steps", {"hires_scale": 2, "hires_strength": 0.1, "steps": 5}),
        ("control_image is required where there is a control_net", {"control_net": "canny"}),
        ("control_net is required where there is a control_image", {"control_image": [FILE]}),
        ("1 ControlNets take one picture", {"control_net": "canny", "control_image": [FILE, FILE]}),
        ("control_net: at most 4 at once, got 5", {"control_net": "canny," * 5, "control_image": [FILE]}),
        (
            "control_net: the weight of 'canny' must be from 0 to 5, got -1",
            {"control_net": "canny:-1", "control_image": [FILE]},
        ),
        (
            "control_end must be more than control_start",
            {"control_net": "canny", "control_image": [FILE], "control_start": 0.5, "control_end": 0.5},
        ),
        ("upscale: 16384 pixels is too wide", {"width": 2048, "upscale": 8}),
        ("loras: at most 16 at once", {"loras": "ink," * 17}),
    ],
)
def test_values_that_no_picture_could_come_of_together_are_refused(
    dressed: Path, said: str, inputs: dict[str, Any]
) -> None:
    with pytest.raises(InvalidParam, match=said):
        asked(dressed, **inputs)


def test_a_picture_that_is_changed_keeps_its_own_size(folder: Path) -> None:
    inputs = asked(folder, image=FILE, strength=0.5)
    assert "width" not in inputs
    assert asked(folder, image=FILE, width=128)["width"] == 128


def test_enlarging_needs_no_checkpoint(dressed: Path) -> None:
    assert settled_call(dressed, {"image": FILE, "upscale": 2})["upscaler"] == "lanczos"


def test_what_a_model_card_says_counts_where_the_request_says_nothing(folder: Path) -> None:
    (folder / "dosmix_.toml").write_text(
        'sampler = "DPM++ SDE Karras"\nsteps = 12\nclip_skip = 2\nwidth = 72\nheight = 80\nguidance_scale = 3.5'
    )
    said = settled_call(folder, {"prompt": "a cat", "model_name": "dosmix_", "n": 1})
    assert {name: said[name] for name in ("scheduler", "steps", "clip_skip", "width", "height", "guidance_scale")} == {
        **{"scheduler": "dpmpp_sde_karras", "steps": 12, "clip_skip": 2},
        **{"width": 72, "height": 80, "guidance_scale": 3.5},
    }
    asked = {"scheduler": "ddim", "steps": 3, "clip_skip": 1, "width": 64, "height": 64, "guidance_scale": 1.0}
    said = settled_call(folder, {"prompt": "a cat", "model_name": "dosmix_", "n": 1, **asked})
    assert {name: said[name] for name in asked} == asked


def test_a_card_with_a_sampler_that_is_not_here_is_refused(folder: Path) -> None:
    (folder / "dosmix_.toml").write_text('sampler = "warp drive"')
    with pytest.raises(CheckpointUnavailable, match="model card of 'dosmix_' names a sampler 'warp drive'"):
        settled_call(folder, {"prompt": "a cat", "model_name": "dosmix_", "n": 1})


@pytest.mark.parametrize(("asked", "name"), [({}, "atelier-shapes"), ({"model_name": "dosmix_"}, "dosmix_")])
def test_a_checkpoint_to_be_kept_is_what_its_step_needs(folder: Path, asked: dict[str, Any], name: str) -> None:
    settle = SettleImages(Catalogue([folder, SHIPPED_FOLDER]), {})
    settled = settle(WorkerCall("gpu", {**asked, "keep_alive_s": 0}))
    assert (settled.inputs, settled.checkpoint) == ({"model_name": name, "keep_alive_s": 0}, name)
    with pytest.raises(CheckpointUnavailable):
        settle(WorkerCall("gpu", {"model_name": "unknown"}))
