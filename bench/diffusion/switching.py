"""From one checkpoint to another: both in memory, and from a file that nobody has read yet."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from bench.diffusion.stage import Stage, seconds
from bench.diffusion.table import Row
from bench.diffusion.weights import cousins, random_stable_diffusion, single_file
from workers.diffusion.checkpoint.shells import forget_shells
from workers.diffusion.checkpoint.tokenizer import CONFIGS
from workers.diffusion.engine import Engine
from workers.diffusion.memory import give_back_memory
from workers.diffusion.request import Limits, Precision, Tuning, Weights

ROUNDS, LOADS, LARGE = 10, 8, 5


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
    """Single files that are not in the page cache: loaded, against read, and against diffusers' own loading."""
    weights = stage.request.weights
    with tempfile.TemporaryDirectory(dir=_on_disk()) as folder:
        file = single_file(Path(weights.path), Path(folder))
        weights = replace(weights, name=file.stem, path=str(file))
        size_mb = file.stat().st_size / 1e6
        ours, read, theirs = [], [], []
        for _ in range(LOADS):
            read.append(seconds(_read, _cold(file)))
            ours.append(_load_s(stage, weights))
            theirs.append(seconds(_load_plainly, stage, _cold(file)))
        ours_s, theirs_s = statistics.median(ours), statistics.median(theirs)
        aim = "<= 1.2" if stage.is_gpu else ""
        yield _load_row(f"loading a cold file of {size_mb:.0f} MB", ours, read, aim)
        yield Row("  against diffusers' from_single_file", f"{ours_s:.2f} s", f"{theirs_s:.2f} s", ours_s / theirs_s)
        yield _load_row("  in the place of one of its kind", _swaps_s(stage, weights, Path(folder)), read)
        yield _load_row("  a process's first one of its kind", [_first_load_s(stage, weights)], read)
        if not stage.is_gpu:
            yield _load_row("  in half precision, as the file is", *_loads_s(stage, weights, "float16"))
            wide = Path(folder) / "wide.safetensors"
            save_file({name: each.float() for name, each in load_file(file).items()}, wide, metadata={"format": "pt"})
            wide_weights = replace(weights, name="wide", path=str(wide))
            yield _load_row("  in single precision, of such a file", *_loads_s(stage, wide_weights, "float32"))


def large(stage: Stage) -> Iterator[Row]:
    """Stable Diffusion 1.5 in full size, 2.1 GB in half precision: as it is, and made single while it is read."""
    folder = random_stable_diffusion()
    with tempfile.TemporaryDirectory(dir=_on_disk()) as place:
        file = single_file(folder, Path(place))
        weights = Weights(file.stem, str(file), "sd1")
        size = f"{file.stat().st_size / 1e9:.1f} GB"
        as_it_is = _loads_s(stage, weights, "float16", LARGE)
        yield _load_row(f"loading a cold file of {size} as it is", *as_it_is, "<= 1.2")
        yield _load_row("  in single precision", *_loads_s(stage, weights, "float32", LARGE))


def _load_row(what: str, ours: Sequence[float], read: Sequence[float], aim: str = "") -> Row:
    ours_s, read_s = statistics.median(ours), statistics.median(read)
    return Row(what, f"{ours_s * 1000:.0f} ms", f"reading: {read_s * 1000:.0f} ms", ours_s / read_s, aim)


def _loads_s(
    stage: Stage, weights: Weights, precision: Precision, times: int = LOADS
) -> tuple[list[float], list[float]]:
    """So many loads, and as many times only read, in turns."""
    ours, read = [], []
    for _ in range(times):
        read.append(seconds(_read, _cold(Path(weights.path))))
        ours.append(_load_s(stage, weights, precision))
    return ours, read


def _load_s(stage: Stage, weights: Weights, precision: Precision = "auto") -> float:
    """By an engine of its own, which has none yet."""
    engine = Engine(str(stage.engine.device), tuning=Tuning(precision))
    _cold(Path(weights.path))
    took_s = seconds(engine.warm, weights)
    engine.close()
    return took_s


def _swaps_s(stage: Stage, weights: Weights, folder: Path) -> list[float]:
    """By an engine that has room for one, and has another."""
    engine = Engine(str(stage.engine.device), limits=Limits(budget_bytes=1))
    other = folder / "other.safetensors"
    shutil.copy(weights.path, other)
    both = (weights, replace(weights, name="other", path=str(other)))
    took_s = []
    for each in both * (LOADS // 2 + 1):
        _cold(Path(each.path))
        took_s.append(seconds(engine.warm, each))
    engine.close()
    return took_s[1:]


def _first_load_s(stage: Stage, weights: Weights) -> float:
    forget_shells()
    return _load_s(stage, weights)


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
