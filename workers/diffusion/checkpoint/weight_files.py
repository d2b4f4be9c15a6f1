"""Which files of a diffusers folder hold the weights."""

from __future__ import annotations

import re
from pathlib import Path

_VARIANT = re.compile(r"(\.[a-z_0-9]+)(?:-\d+-of-\d+)?\.safetensors$")  # .fp16 · .non_ema · .fp16-00001-of-00002


def weight_files(folder: Path) -> list[Path]:
    """The weights of one component's folder: those in full precision where both are there. Raises OSError for none.

    A folder may hold them several times, told apart by what follows the first point, perhaps each in several files.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder.name}/ has no .safetensors file")
    variants: dict[str, list[Path]] = {}
    for file in files:
        found = _VARIANT.search(file.name)
        variants.setdefault(found[1] if found else "", []).append(file)
    return next(variants[each] for each in ("", ".fp16", *variants) if each in variants)
