"""The engine is asked for .safetensors files alone, whatever a request names."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from app.checkpoints.conversion import Conversions
from app.domain.event import Tick
from app.domain.run import Step, StepStatus
from app.graph.nodes.tool import ToolCall
from workers.diffusion.request import (
    Control,
    Enlargement,
    EnlargeRequest,
    Hires,
    ImageRequest,
    Lora,
    Weights,
)
from workers.nodes.ready_files import ReadyFiles
from workers.run_step import Job, StepHalted, Stopwatch


@pytest.fixture
def files(tmp_path) -> ReadyFiles:
    return ReadyFiles(Conversions(tmp_path / "converted"))


@pytest.fixture
def pickled(tmp_path):
    """Saves a small file as PyTorch does, and says where."""

    def save(name: str) -> str:
        torch.save({name: torch.ones(2)}, tmp_path / f"{name}.pt")
        return str(tmp_path / f"{name}.pt")

    return save


def job(ticks: list[Tick], halted: bool = False) -> Job:
    step = Step("s", "r", "paint", "tool", "Paint", 1, StepStatus.RUNNING)
    nobody = lambda *_: None  # noqa: E731
    return Job(step, ToolCall, {}, "app", "user", ticks.append, lambda: halted, Stopwatch(), nobody, lambda: None)


def test_every_file_that_pytorch_saved_is_converted(files, pickled):
    old = pickled("weights")
    request = ImageRequest(
        Weights("w", old, "sd1", vae_path=old, text_encoder_path=old),
        loras=(Lora("l", old, 0.5),),
        embeddings=(("word", old),),
        controls=(Control("c", old, b"picture"),),
        hires=Hires(upscaler=old),
        enlarge=Enlargement(2, old),
        preview_path=old,
    )
    ready = files.of(request, job([]))
    assert old not in repr(ready)
    assert list(load_file(ready.weights.vae_path)) == ["weights"]
    assert repr(ready).replace(ready.weights.path, old) == repr(request)
    alone = files.of(EnlargeRequest(b"picture", Enlargement(2, old)), job([]))
    assert alone.enlarge == ready.enlarge


def test_what_can_be_loaded_stays_as_it_is(files, tiny):
    request = ImageRequest(Weights("w", str(tiny.file), "shapes"), hires=Hires(), enlarge=Enlargement(2))
    assert files.of(request, job([])) == request
    folder = dataclasses.replace(request, weights=Weights("w", str(tiny.folder), "shapes"))
    assert files.of(folder, job([])) == folder


def test_a_step_that_is_stopped_waits_no_longer(files, pickled, tmp_path):
    with pytest.raises(StepHalted):
        files.of(ImageRequest(Weights("w", pickled("unet"), "sd1")), job([], halted=True))
    assert [path.name for path in Path(tmp_path / "converted").iterdir()] == [".lock"]


def test_the_time_counts_as_loading(files, pickled):
    one = job([])
    files.of(ImageRequest(Weights("w", pickled("unet"), "sd1")), one)
    assert one.watch.load_s > 0
