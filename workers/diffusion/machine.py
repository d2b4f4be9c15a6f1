"""What a picture is made on, as its file says it: other devices, and other instructions of a CPU, round otherwise."""

from __future__ import annotations

import platform
import re
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

import torch

_MODEL = re.compile(r"^model name\s*:\s*(.+)$", re.MULTILINE)


def described(device: torch.device, dtype: torch.dtype, without: Collection[str] = ()) -> dict[str, Any]:
    """`device`, `dtype`, and what the device was not made faster by (see `Tuning`), for a recipe."""
    told: dict[str, Any] = {"device": _name(device), "dtype": str(dtype).removeprefix("torch.")}
    return told | ({"without": sorted(without)} if without else {})


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        threads = torch.get_num_threads()
        counted = f"{threads} thread{'s' if threads > 1 else ''}"
        return f"{_processor()} ({torch.backends.cpu.get_cpu_capability()}, {counted})"
    return f"{device.type} {platform.processor()}".strip()


@cache
def _processor() -> str:
    try:
        found = _MODEL.search(Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return " ".join(found[1].split()) if found else platform.processor() or platform.machine()
