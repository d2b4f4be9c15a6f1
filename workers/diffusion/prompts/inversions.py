"""Textual inversion: a file of vectors that stand in the prompt for a word of its own.

Three forms are about: AUTOMATIC1111's (`emb_params`, or `string_to_param` in a .pt file), that of diffusers (the word
itself is the key), and the one of Stable Diffusion XL with vectors for both text encoders (`clip_l`, `clip_g`).
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from app.errors import CheckpointUnavailable
from workers.diffusion.checkpoint.tokenizer import LENGTH

_FAMILIES = {
    (768,): "Stable Diffusion 1",
    (1024,): "Stable Diffusion 2",
    (768, 1280): "Stable Diffusion XL",
}
_UNREADABLE = (
    OSError, ValueError, KeyError, AttributeError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError
)  # fmt: skip


@dataclass(frozen=True, eq=False, slots=True)
class Inversion:
    """For each text encoder, the vectors (rows, width) that it reads in the word's place."""

    vectors: tuple[torch.Tensor, ...]

    @property
    def rows(self) -> int:
        return len(self.vectors[0])

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(each.shape[1] for each in self.vectors)


def read_inversion(word: str, path: Path, widths: Sequence[int]) -> Inversion:
    """The vectors in the file at `path`, for text encoders of these `widths`.

    Raises CheckpointUnavailable where the file can't be read, is none, or is for another family. Nothing in a file is
    ever executed.
    """
    try:
        inversion = Inversion(_vectors(_tensors(path)))
    except _UNREADABLE as error:
        raise _refused(word, "its file can't be read as one. Download it again, or leave it out") from error
    if inversion.widths != tuple(widths):
        raise _refused(word, f"it is for {_named(inversion.widths)}, and this checkpoint is of {_named(widths)}")
    if not 0 < inversion.rows <= LENGTH - 2 or any(len(each) != inversion.rows for each in inversion.vectors):
        raise _refused(word, f"it must have between 1 and {LENGTH - 2} vectors for each text encoder")
    if not all(torch.isfinite(each).all() for each in inversion.vectors):
        raise _refused(word, "its vectors are no numbers (NaN)")
    return inversion


def _tensors(path: Path) -> Mapping[str, Any]:
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] == b"{":
        tensors: Mapping[str, Any] = load_file(path)
        return tensors
    with torch.serialization.safe_globals([nn.ParameterDict]):
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(loaded, Mapping):
        raise ValueError("no mapping")
    return loaded


def _vectors(file: Mapping[str, Any]) -> tuple[torch.Tensor, ...]:
    """Raises ValueError for what is no textual inversion."""
    if "clip_l" in file and "clip_g" in file:
        found = [file["clip_l"], file["clip_g"]]
    elif "string_to_param" in file:
        named = file["string_to_param"]
        found = list((getattr(named, "_parameters", None) or named).values())[:1]  # so it was before torch 1.12
    elif "emb_params" in file:
        found = [file["emb_params"]]
    else:
        found = list(file.values())
        if len(found) != 1:
            raise ValueError("more than one word")
    if not found or not all(isinstance(each, torch.Tensor) and each.dim() in (1, 2) for each in found):
        raise ValueError("no vectors")
    return tuple(each.detach().float().reshape(-1, each.shape[-1]) for each in found)


def _named(widths: Sequence[int]) -> str:
    width = " and ".join(str(each) for each in widths)
    return _FAMILIES.get(tuple(widths), "another family") + f" (width {width})"


def _refused(word: str, why: str) -> CheckpointUnavailable:
    return CheckpointUnavailable(f"The embedding {word} can't be used: {why}.", params="prompt")
