"""When memory runs out, and how freed memory goes back to the system."""

from __future__ import annotations

import ctypes
import gc
import os
from pathlib import Path

import torch

from app.errors import OutOfMemory

# torch has a class of its own for this on CUDA only.
_SENTENCES = ("can't allocate memory", "not enough memory", "MPS backend out of memory")

_SHARE_OF_GPU, _SHARE_OF_RAM = 0.6, 0.5
_CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(says in str(error) for says in _SENTENCES)


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
    return OutOfMemory("The device ran out of memory. Ask for a smaller picture, or for fewer at once (n).")
