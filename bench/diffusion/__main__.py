"""Each promise of the engine as a ratio to plain diffusers: `make bench-diffusion`.

python -m bench.diffusion [--device cuda|cpu] [PART ...]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import diffusers
import torch

from bench.diffusion.crowds import alone, crowds, joining, mixed_load
from bench.diffusion.soak import soak
from bench.diffusion.stage import Stage, device_name, open_stage
from bench.diffusion.switching import large, loading, switching
from bench.diffusion.table import HEAD, Row
from workers.diffusion.threads import usable_cores

PARTS: dict[str, Callable[[Stage], Iterator[Row]]] = {
    "alone": alone,
    "crowds": crowds,
    "mixed": mixed_load,
    "joining": joining,
    "switching": switching,
    "loading": loading,
    "large": large,
    "soak": lambda stage: soak(),
}


def main() -> None:
    words = argparse.ArgumentParser(prog="python -m bench.diffusion")
    words.add_argument("--device", help="cuda or cpu; left out: the best there is")
    words.add_argument("parts", nargs="*", choices=[*PARTS, []], help="left out: all")
    chosen = words.parse_args()
    torch.set_num_threads(usable_cores())
    stage = open_stage(chosen.device)
    request = stage.request
    print(f"\nthe engine against plain diffusers {_versions()}, on {device_name(stage)}, {stage.engine.dtype}")
    print(f"{request.weights.name}, {request.width} x {request.height}, {request.steps} steps of {request.sampler}\n")
    print(HEAD)
    for name in chosen.parts or PARTS:
        for row in PARTS[name](stage):
            print(row, flush=True)


def _versions() -> str:
    return f"{diffusers.__version__} (torch {torch.__version__})"


if __name__ == "__main__":
    main()
