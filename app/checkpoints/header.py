"""Where the tensors of a checkpoint's file lie, from its header alone: milliseconds, whatever the size of the file.

A .safetensors file begins with 8 bytes of little-endian length, then JSON of names, shapes and offsets. What PyTorch
saved is told by its first bytes, whatever the file is called, and is read by `torch_files`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from app.checkpoints.torch_files import NotReadable, Stored, is_torch_file, stored_tensors

MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library itself

Shapes = dict[str, list[int]]


class Unreadable(Exception):
    """Not a whole file of weights. Its text completes a sentence that begins with the file's name."""


def tensor_shapes(path: Path) -> Shapes:
    """Name → shape of each tensor in the file. Raises Unreadable, also for a file that is cut short; OSError."""
    with path.open("rb") as file:
        return {name: list(tensor.shape) for name, tensor in find_tensors(file).items()}


def find_tensors(file: BinaryIO) -> dict[str, Stored]:
    """Name → where each tensor lies in the file, and what it is. Raises as `tensor_shapes` does."""
    size = file.seek(0, 2)
    file.seek(0)
    start = file.read(9)
    if _is_pickled(start):
        try:
            return stored_tensors(file)
        except NotReadable as error:
            raise Unreadable(str(error)) from None
    length = int.from_bytes(start[:8], "little")
    if len(start) < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
        raise Unreadable(_what_it_is(start))
    file.seek(8)
    try:
        entries: dict[str, dict[str, Any]] = msgspec.json.decode(file.read(length), type=dict[str, dict[str, Any]])
        entries.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        tensors = {name: _tensor(entry, 8 + length) for name, entry in entries.items()}
    except (msgspec.DecodeError, LookupError, TypeError, ValueError):
        raise Unreadable(_what_it_is(start)) from None
    if 8 + length + end != size:
        raise Unreadable(
            f"is cut short: {size:,} of {8 + length + end:,} bytes are there. Wait for the copy to end, or download "
            "it again."
            if size < 8 + length + end
            else "has more bytes than its header names, so it is damaged. Download it again."
        )
    return tensors


def is_pickled(path: Path) -> bool:
    """Whether PyTorch saved the file, so that it is to be converted before anybody loads it. Raises OSError."""
    if path.is_dir():
        return False
    with path.open("rb") as file:
        return _is_pickled(file.read(9))


def _is_pickled(start: bytes) -> bool:
    """The length of a .safetensors file's header may look like a pickle's beginning; then its JSON begins."""
    return is_torch_file(start) and start[8:] != b"{"


def _tensor(entry: dict[str, Any], behind_header: int) -> Stored:
    shape = tuple(int(side) for side in entry["shape"])
    strides = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
    return Stored(str(entry["dtype"]), shape, strides, behind_header + int(entry["data_offsets"][0]))


def _what_it_is(start: bytes) -> str:
    if not start:
        return "is empty. Download it again."
    if start.lstrip()[:1] == b"<":
        return "is a web page, not a checkpoint: the download wanted a login or another address. Download it again."
    if start.startswith(b"version "):
        return "is a Git LFS pointer, not the weights themselves. Fetch it with `git lfs pull`."
    return "is no checkpoint: its header can't be read. Download it again."
