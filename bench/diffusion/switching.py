"""From one checkpoint to another: both in memory, and from a file that nobody has read yet."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from diffusers import StableDiffusionPipeline

from bench.diffusion.stage import Stage, seconds
from bench.diffusion.table import Row
from bench.diffusion.weights import cousins, single_file
from workers.diffusion.checkpoint.tokenizer import CONFIGS
from workers.diffusion.engine import Engine
from workers.diffusion.memory import give_back_memory
from workers.diffusion.request import Weights

ROUNDS, LOADS = 10, 4


def switching(stage: Stage) -> Iterator[Row]:
    """Pictures of one step by two checkpoints in turns, against the same by one of them."""
    with tempfile.TemporaryDirectory() as folder:
        if stage.is_gpu:
            files = [Path(stage.request.weights.path), single_file(Path(stage.request.weights.path), Path(folder))]
        else:
            files = list(cousins(2, Path(folder)))
        first, second = (replace(stage.request.weights, name=file.stem, path=str(file)) for file in files)
        for weights in (first, second):
            stage.engine.warm(weights)
            stage.paint(stage.asked(0, weights=weights))
        step_s = _step_s(stage)
        extra = []
        for i in range(ROUNDS):
            same, turns = (seconds(_paint_in_turns, stage, i, each) for each in ((first, first), (first, second)))
            extra.append((turns - same) / 2)
    switch_s = statistics.median(extra)
    yield Row(
        "switch between two in memory, in steps",
        f"{switch_s * 1000:.1f} ms",
        f"a step: {step_s * 1000:.1f} ms",
        switch_s / step_s,
        "<= 2.0",
    )


def _paint_in_turns(stage: Stage, number: int, checkpoints: Sequence[Weights]) -> None:
    for weights in checkpoints:
        stage.paint(stage.asked(number, weights=weights, steps=1))


def _step_s(stage: Stage) -> float:
    """What one step more costs a request alone."""
    few, many = (
        statistics.median(seconds(stage.paint, stage.asked(i, steps=steps)) for i in range(3)) for steps in (4, 14)
    )
    return (many - few) / 10


def loading(stage: Stage) -> Iterator[Row]:
    """A single file that is not in the page cache: loaded, against read, and against diffusers' own loading."""
    weights = stage.request.weights
    with tempfile.TemporaryDirectory(dir=_on_disk()) as folder:
        file = single_file(Path(weights.path), Path(folder))
        size_mb = file.stat().st_size / 1e6
        ours, read, theirs = [], [], []
        for _ in range(LOADS):
            read.append(seconds(_read, _cold(file)))
            ours.append(_load_s(stage, replace(weights, name=file.stem, path=str(_cold(file)))))
            theirs.append(seconds(_load_plainly, stage, _cold(file)))
    ours_s, read_s, theirs_s = (statistics.median(each) for each in (ours, read, theirs))
    aim = "<= 1.2" if stage.is_gpu else ""
    yield Row(
        f"loading a cold file of {size_mb:.0f} MB", f"{ours_s:.2f} s", f"reading: {read_s:.2f} s", ours_s / read_s, aim
    )
    yield Row("  against diffusers' from_single_file", f"{ours_s:.2f} s", f"{theirs_s:.2f} s", ours_s / theirs_s)


def _load_s(stage: Stage, weights: Weights) -> float:
    """By an engine of its own, which has none yet."""
    engine = Engine(str(stage.engine.device))
    took_s = seconds(engine.warm, weights)
    engine.close()
    return took_s


def _load_plainly(stage: Stage, file: Path) -> None:
    folder = Path(stage.request.weights.path)
    config = folder if (folder / "model_index.json").is_file() else CONFIGS / stage.request.weights.family
    StableDiffusionPipeline.from_single_file(
        str(file), config=str(config), local_files_only=True, dtype=stage.engine.dtype
    ).to(stage.engine.device)
    give_back_memory()


def _read(file: Path) -> None:
    with open(file, "rb", buffering=0) as source:
        while source.read(1 << 24):
            pass


def _cold(file: Path) -> Path:
    """Nothing of it is left in the page cache."""
    descriptor = os.open(file, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    return file


def _on_disk() -> Path:
    """A folder that is no memory in disguise, as /tmp may be."""
    folder = Path("build/bench-diffusion")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
