"""When memory runs out, and how freed memory goes back to the system."""

from __future__ import annotations

import ctypes
import gc
import os
import re
from functools import cache
from pathlib import Path

import torch

from app.errors import OutOfMemory

# torch has a class of its own for this on CUDA only, and there for its own memory only: not for what the driver and
# libraries want besides, for recordings, pinned memory and workspaces.
_SENTENCES = ("can't allocate memory", "not enough memory", "out of memory", "_STATUS_ALLOC_FAILED")

_SHARE_OF_GPU, _SHARE_OF_RAM = 0.6, 0.5
_CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(says in str(error) for says in _SENTENCES)


@cache
def spare_libraries() -> None:
    """From now on no garbage collection looks at what there is already: half a million objects, which stay anyway.

    Else each collection that gives back memory would take a quarter of a second.
    """
    gc.collect()
    gc.freeze()


def give_back_memory() -> None:
    """Returns freed weights to the system. Without malloc_trim, glibc keeps gigabytes of them in its arenas."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def memory_for_weights(device: torch.device) -> int:
    """How many bytes of the device checkpoints may take where nobody has said it: the rest is for painting."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1] * _SHARE_OF_GPU)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() * _SHARE_OF_RAM)
    return int(_ram_bytes() * _SHARE_OF_RAM)


def _ram_bytes() -> int:
    """Of the machine, or of the container that this process runs in."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = (_number_in(Path(file)) for file in _CONTAINER_LIMITS)
    return min([machine, *(limit for limit in limits if limit)])


def _number_in(file: Path) -> int:
    """0 where there is none, as in a group without a limit ("max")."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return 0


def as_told(error: Exception) -> Exception:
    """The error as the one who asked is to hear it, without its traceback: that would hold the frames of the engine,
    and the frames hold the tensors.
    """
    error.__traceback__ = None
    if not is_out_of_memory(error):
        return error
    give_back_memory()
    return OutOfMemory(f"{shortage(str(error))} Ask for a smaller picture, or for fewer at once (n).")


def shortage(said: str) -> str:
    """What torch `said` in one sentence: how much more was needed, and how much was free, as far as it is known."""
    needed = _amount(_NEEDED, said)
    free = _amount(_FREE, said)
    if needed is not None and free is None:
        free = _number_after("MemAvailable:", Path("/proc/meminfo"))
    told = "The device ran out of memory"
    if needed is None:
        return f"{told}."
    return f"{told}: {_shown(needed)} more were needed" + (f", {_shown(free)} were free." if free is not None else ".")


_NEEDED = re.compile(r"tried to allocate ([\d.]+) (\w+)", re.IGNORECASE)
_FREE = re.compile(r"of which ([\d.]+) (\w+) is free")
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "KB": 2**10, "MB": 2**20, "GB": 2**30}


def _amount(pattern: re.Pattern[str], said: str) -> int | None:
    """In bytes."""
    found = pattern.search(said)
    return int(float(found[1]) * _UNITS[found[2]]) if found and found[2] in _UNITS else None


def _number_after(word: str, file: Path) -> int | None:
    """Of a file in the form of /proc/meminfo, in bytes."""
    try:
        line = next(line for line in file.read_text().splitlines() if line.startswith(word))
    except (OSError, StopIteration):
        return None
    return int(line.split()[1]) * 1024


def _shown(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
