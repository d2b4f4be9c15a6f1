"""Which files of a diffusers folder a worker loads: the same as `workers.diffusion.checkpoint.weight_files` takes."""

from __future__ import annotations

import re
from pathlib import Path

_VARIANT = re.compile(r"(\.[a-z_0-9]+)?(?:-\d+-of-(?P<count>\d+))?\.safetensors$")


def weight_files(folder: Path) -> list[Path]:
    """The weights of one component, in full precision where they are there in several; empty for none."""
    variants: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found = _VARIANT.search(file.name)
        variants.setdefault((found and found[1]) or "", []).append(file)
    return next((variants[each] for each in ("", ".fp16", *variants) if each in variants), [])


def missing_files(files: list[Path]) -> int:
    """How many are not there of weights that lie in several files (`…-00001-of-00002.safetensors`)."""
    counts = [int(found["count"]) for file in files if (found := _VARIANT.search(file.name)) and found["count"]]
    return max(counts, default=0) - len(counts) if counts else 0
