"""A thousand mixed requests over four checkpoints: what memory is left, and whether any picture was mixed up.

In a process of its own, because it measures that process: python -m bench.diffusion.soak [REQUESTS]
"""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from bench.diffusion.table import Row
from bench.diffusion.weights import cousins
from workers.diffusion.drawing.schedulers import SAMPLERS
from workers.diffusion.engine import Engine
from workers.diffusion.memory import give_back_memory
from workers.diffusion.request import ImageRequest, Limits, Weights

REQUESTS, FIRST, CALLERS, SAMPLE = 1000, 50, 12, 40
BUDGET_BYTES = 75_000_000  # three of the four checkpoints


def soak() -> Iterator[Row]:
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "bench.diffusion.soak"], stdout=subprocess.PIPE, text=True, check=True
    )
    told = json.loads(said.stdout.splitlines()[-1])
    ratio = told["last_mb"] / told["first_mb"]
    yield Row(
        f"memory after {told['requests']} mixed requests",
        f"{told['last_mb']:.0f} MB",
        f"after {FIRST}: {told['first_mb']:.0f} MB",
        ratio,
        "<= 1.05",
    )
    yield Row("  of them failed", str(told["failed"]), "", told["failed"], "<= 0")
    yield Row(f"  mixed up, of {SAMPLE} painted again alone", str(told["mixed_up"]), "", told["mixed_up"], "<= 0")


def main(count: int = REQUESTS) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = [Weights(file.stem, str(file), "shapes") for file in cousins(4, Path(folder))]
        engine = Engine("cpu", limits=Limits(budget_bytes=BUDGET_BYTES))
        requests = [_request(files, number) for number in range(count)]
        sample = frozenset(random.Random(0).sample(range(count), min(SAMPLE, count)))
        painted, failed, first_mb = _paint_all(engine, requests, sample)
        last_mb = _resident_mb()
        alone = {number: engine.paint(requests[number]).images[0].content for number in painted}
        mixed_up = sum(not _is_same(painted[number], picture) for number, picture in alone.items())
    said = {"requests": count, "first_mb": first_mb, "last_mb": last_mb, "failed": failed, "mixed_up": mixed_up}
    print(json.dumps(said))


def _request(files: list[Weights], number: int) -> ImageRequest:
    """The checkpoints' turns come in waves, as people's wishes do."""
    chance = random.Random(number)
    side = chance.choice([32, 40])
    return ImageRequest(
        weights=files[(number // 10 + chance.choice([0, 0, 0, 1])) % len(files)],
        prompt=f"a {chance.choice(['red', 'green', 'blue'])} circle, {number}",
        negative_prompt=chance.choice(["", "blurry"]),
        width=side,
        height=side,
        steps=chance.randint(2, 4),
        guidance_scale=chance.choice([1.0, 4.0, 7.5]),
        seed=number,
        sampler=chance.choice(list(SAMPLERS)),
    )


def _paint_all(
    engine: Engine, requests: list[ImageRequest], sample: frozenset[int]
) -> tuple[dict[int, bytes], int, float]:
    """The pictures of the sample by their request's number, how many failed, the memory after the first few, in MB.

    All of the pictures would be a part of that memory, and not the engine's.
    """
    painted: dict[int, bytes] = {}
    failed, first_mb = 0, 0.0
    with ThreadPoolExecutor(CALLERS) as threads:
        for begin, end in ((0, FIRST), (FIRST, len(requests))):
            waiting = {number: threads.submit(engine.paint, requests[number]) for number in range(begin, end)}
            for number, each in waiting.items():
                if each.exception() is not None:
                    failed += 1
                elif number in sample:
                    painted[number] = each.result().images[0].content
            first_mb = first_mb or _resident_mb()
    return painted, failed, first_mb


def _resident_mb() -> float:
    """Without what lies freed in the allocator: that would be chance."""
    give_back_memory()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def _is_same(one: bytes, other: bytes) -> bool:
    """By what is seen: the rounding of another kernel may change a pixel by 1."""

    first, second = (np.asarray(Image.open(io.BytesIO(each)).convert("RGB")).astype(int) for each in (one, other))
    return first.shape == second.shape and int(np.abs(first - second).max()) <= 2


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else REQUESTS)
