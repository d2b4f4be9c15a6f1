"""The tensors of one file, told by its content: a `.pth` may be a safetensors file, and the other way round."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, UnpicklingError, SafetensorError, EOFError)
"""What reading or using the tensors of a file raises when it is not what it should be."""

_WRAPPINGS = ("params_ema", "params", "state_dict")  # the averaged copy first: it is the better one


def read_tensors(path: str) -> dict[str, torch.Tensor]:
    """The tensors by their names, out of what trainers wrap them in. Nothing in the file is executed.

    Raises one of UNREADABLE.
    """
    with Path(path).open("rb") as file:
        head = file.read(9)
    if head[8:9] == b"{":
        return _without_prefix(load_file(path))
    return _unwrapped(torch.load(path, map_location="cpu", weights_only=True))


def reason(error: Exception) -> str:
    """Why a file can't be used, short enough for a sentence."""
    return " ".join((str(error) or type(error).__name__).split())[:200]


def _without_prefix(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Files without nested dictionaries have the wrapping in the names instead."""
    for prefix in (f"{wrapping}." for wrapping in _WRAPPINGS):
        inner = {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}
        if inner:
            return inner
    return tensors


def _unwrapped(read: object) -> dict[str, torch.Tensor]:
    if not isinstance(read, Mapping):
        raise ValueError("it holds no weights")
    for wrapping in _WRAPPINGS:
        if isinstance(read.get(wrapping), Mapping):
            return _unwrapped(read[wrapping])
    return {name.removeprefix("module."): weight for name, weight in read.items() if isinstance(weight, torch.Tensor)}
