"""Where the tensors of a checkpoint's file lie, from its header alone: milliseconds, whatever the size of the file.

A .safetensors file begins with 8 bytes of little-endian length, then JSON of names, shapes and offsets. What PyTorch
saved is told by its first bytes, whatever the file is called, and is read by `torch_files`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
from msgspec import Meta

from app.checkpoints.pickles import SIZES
from app.checkpoints.torch_files import MOST_TENSORS, NotReadable, Stored, is_torch_file, stored_tensors

MOST_HEADER_BYTES = 32 << 20  # of a checkpoint it has half a megabyte, of a LoRA with its maker's notes a few

Shapes = dict[str, list[int]]
Count = Annotated[int, Meta(ge=0, lt=1 << 48)]


class Entry(msgspec.Struct, frozen=True):
    """What a header says of one tensor. Offsets count from the header's end."""

    dtype: str
    shape: Annotated[tuple[Count, ...], Meta(max_length=8)]
    data_offsets: tuple[Count, Count]


_entries = msgspec.json.Decoder(dict[str, msgspec.Raw])
_entry = msgspec.json.Decoder(Entry)


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
    if len(start) < 8 or not 2 <= length <= min(MOST_HEADER_BYTES, size - 8):
        raise Unreadable(_what_it_is(start))
    file.seek(8)
    try:
        entries = _entries.decode(file.read(length))
        entries.pop("__metadata__", None)
        if len(entries) > MOST_TENSORS:
            raise Unreadable("holds more tensors than any checkpoint.")
        tensors = {name: _entry.decode(entry) for name, entry in entries.items()}
    except (msgspec.DecodeError, RecursionError):
        raise Unreadable(_what_it_is(start)) from None
    _check_length(tensors.values(), size - 8 - length, size)
    return {name: _stored(entry, 8 + length) for name, entry in tensors.items()}


def _check_length(tensors: Iterable[Entry], there: int, size: int) -> None:
    """Whether they lie one behind the other, each as long as its shape says, to the file's end. Raises Unreadable."""
    end = 0
    for entry in sorted(tensors, key=lambda each: each.data_offsets):
        start, behind = entry.data_offsets
        length = math.prod(entry.shape) * SIZES.get(entry.dtype, 0)
        if start != end or behind < start or (entry.dtype in SIZES and behind - start != length):
            raise Unreadable("is damaged: its header gives tensors places where they can't lie. Download it again.")
        end = behind
    if end > there:
        said = f"{size:,} of {size - there + end:,} bytes are there"
        raise Unreadable(f"is cut short: {said}. Wait for the copy to end, or download it again.")
    if end < there:
        raise Unreadable("has more bytes than its header names, so it is damaged. Download it again.")


def is_pickled(path: Path) -> bool:
    """Whether PyTorch saved the file, so that it is to be converted before anybody loads it. Raises OSError."""
    if path.is_dir():
        return False
    with path.open("rb") as file:
        return _is_pickled(file.read(9))


def _is_pickled(start: bytes) -> bool:
    """The length of a .safetensors file's header may look like a pickle's beginning; then its JSON begins."""
    return is_torch_file(start) and start[8:] != b"{"


def _stored(entry: Entry, behind_header: int) -> Stored:
    strides, step = [0] * len(entry.shape), 1
    for i in reversed(range(len(strides))):
        strides[i], step = step, step * entry.shape[i]
    return Stored(entry.dtype, entry.shape, tuple(strides), behind_header + entry.data_offsets[0])


def _what_it_is(start: bytes) -> str:
    if not start:
        return "is empty. Download it again."
    if start.lstrip()[:1] == b"<":
        return "is a web page, not a checkpoint: the download wanted a login or another address. Download it again."
    if start.startswith(b"version "):
        return "is a Git LFS pointer, not the weights themselves. Fetch it with `git lfs pull`."
    return "is no checkpoint: its header can't be read. Download it again."
