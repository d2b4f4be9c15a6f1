"""Which checkpoint paints, and in which size, where a workflow names somebody else's model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from app.checkpoints.catalogue import SHIPPED_FOLDER, Catalogue, bare_name
from app.errors import CheckpointUnavailable
from app.graph.nodes.kind import WorkerCall
from app.runs.settle import SettleImages

SHAPES = SHIPPED_FOLDER / "atelier-shapes"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("dosmix_", "flux.1-dev"):
        shutil.copytree(SHAPES, tmp_path / name)
    return tmp_path


def settled(folder: Path, names: dict[str, str] | None = None, **inputs: Any) -> dict[str, Any]:
    settle = SettleImages(Catalogue([folder, SHIPPED_FOLDER]), names or {})
    call = WorkerCall("gpu", {"prompt": "a cat", "steps": 2, "n": 1, **inputs}, {"fits": True})
    return dict(settle(call).inputs)


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
