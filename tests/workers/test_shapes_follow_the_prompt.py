"""The checkpoint that ships paints what it is asked for: 60 prompts, each with its seed, 20 of them never seen."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.checkpoints.catalogue import SHIPPED_FOLDER
from workers.diffusion.checkpoint.export import export_single_file
from workers.diffusion.engine import Engine
from workers.diffusion.request import ImageRequest, Weights
from workers.diffusion.shapes.drawing import Scene
from workers.diffusion.shapes.judge import judge
from workers.diffusion.shapes.prompts import fixed_scenes

CHECKPOINT = Path(os.environ.get("ATELIER_SHAPES_DIR", SHIPPED_FOLDER / "atelier-shapes"))  # or a trainer's output


def request(scene: Scene, seed: int) -> ImageRequest:
    return ImageRequest(
        weights=Weights("atelier-shapes", str(CHECKPOINT), "shapes"),
        prompt=scene.prompt(),
        width=64,
        height=64,
        steps=20,
        guidance_scale=4.0,
        seed=seed,
        sampler="dpmpp_2m",
    )


def share(scenes: list[Scene], seen: list[Scene], part: str) -> float:
    """How many of the scenes that say something of `part` show it. The middle has two names."""
    pairs = [(getattr(one, part), getattr(other, part)) for one, other in zip(scenes, seen, strict=True)]
    said = [(wanted, shown) for wanted, shown in pairs if wanted]
    return sum(shown == ("" if wanted == "center" else wanted) for wanted, shown in said) / len(said)


@pytest.mark.slow
def test_pictures_show_what_the_prompt_says(capsys):
    engine, scenes = Engine(device="cpu"), fixed_scenes()
    with ThreadPoolExecutor(16) as threads:
        painted = threads.map(engine.paint, [request(scene, seed) for seed, scene in enumerate(scenes)])
    seen = [judge(np.asarray(Image.open(io.BytesIO(each.images[0].content)))) for each in painted]
    rates = {part: share(scenes, seen, part) for part in ("background", "colour", "shape", "size", "place")}
    with capsys.disabled():
        print("\n" + ", ".join(f"{part} {rate:.0%}" for part, rate in rates.items()))
    assert min(rates["background"], rates["colour"], rates["shape"]) >= 0.95
    assert rates["size"] >= 0.95
    assert rates["place"] >= 0.40  # ten places: chance gives 0.1; the README tells what it is


def test_the_shipped_folder_and_its_single_file_paint_the_same_bits(tmp_path):
    """So the configurations that a single file is read with are those of the checkpoint that ships."""
    export_single_file(CHECKPOINT, tmp_path / "one.safetensors")
    wanted = request(fixed_scenes()[0], seed=1)
    from_file = replace(wanted, weights=replace(wanted.weights, path=str(tmp_path / "one.safetensors")))
    engine = Engine(device="cpu")
    assert engine.paint(wanted).images == engine.paint(from_file).images
