"""When memory runs out, and how freed memory goes back to the system."""

from __future__ import annotations

import ctypes
import gc

import torch

from app.errors import OutOfMemory

# torch has a class of its own for this on CUDA only.
_SENTENCES = ("can't allocate memory", "not enough memory", "MPS backend out of memory")


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


def as_told(error: Exception) -> Exception:
    """The error as the one who asked is to hear it, without its traceback: that would hold the frames of the engine,
    and the frames hold the tensors.
    """
    error.__traceback__ = None
    if not is_out_of_memory(error):
        return error
    give_back_memory()
    return OutOfMemory("The device ran out of memory. Ask for a smaller picture, or for fewer at once (n).")
