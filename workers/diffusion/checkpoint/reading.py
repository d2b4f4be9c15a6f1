"""The tensors of .safetensors files by name: where each lies, and how it is read.

Files are read and not mapped into memory: of one that is not in the disk's cache, and more so on a network disk, a
map brings some pages at a time and takes many times as long. What is read is a copy, so the file may be replaced
while its weights are in use.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch

from workers.diffusion.checkpoint.headers import header_length, header_of

_KINDS = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "BOOL": torch.bool},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8},
}


class Source(NamedTuple):
    """Where one tensor lies: `shape` numbers of `kind` from byte `start` of an open file on, which a sentence calls
    `where`. One that is `transposed` is wanted with its two sides exchanged.
    """

    descriptor: int
    start: int
    kind: torch.dtype
    shape: tuple[int, ...]
    where: str
    transposed: bool = False

    @property
    def wanted_shape(self) -> tuple[int, ...]:
        return self.shape[::-1] if self.transposed else self.shape

    def read(self) -> torch.Tensor:
        """Raises ValueError when the file ends before it."""
        tensor = torch.empty(self.shape, dtype=self.kind)
        content = tensor.reshape(-1).view(torch.uint8).numpy().data
        read_into([content], self.descriptor, self.start, self.where)
        return tensor.T if self.transposed else tensor


class Tensors:
    """The tensors of all files at `paths`; `files` closes them. `where` is how a sentence calls the files.

    Raises ValueError for a file whose header is not in order, or that is not as long as its header says; OSError.
    """

    def __init__(self, paths: Sequence[Path], files: ExitStack, where: str = "it") -> None:
        self.where = where
        self._places: dict[str, Source] = {}
        for path in paths:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            files.callback(os.close, descriptor)
            self._places |= _places(descriptor, where)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def find(self, *spellings: str, third: int | None = None) -> Source:
        """Where the tensor under the first of these names that is there lies, or one of its three equal parts by its
        rows. Raises KeyError with the first name.
        """
        name = next((each for each in spellings if each in self._places), spellings[0])
        found = self._places.get(name)
        if found is None:
            raise KeyError(f"{self.where} lacks weights, such as {name}")
        if third is None:
            return found
        shape = (found.shape[0] // 3, *found.shape[1:])
        return found._replace(shape=shape, start=found.start + third * prod(shape) * found.kind.itemsize)


def _places(descriptor: int, where: str) -> dict[str, Source]:
    between = (8 + header_length(descriptor), os.fstat(descriptor).st_size)
    try:
        header = header_of(descriptor)
        return {
            name: _source(descriptor, where, entry, between) for name, entry in header.items() if name != "__metadata__"
        }
    except _Misfit as error:
        raise ValueError(f"{where} {error}") from None
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"the header of {where} can't be read") from error


class _Misfit(Exception):
    """A tensor that can't be in the file as the header says."""


def _source(descriptor: int, where: str, entry: Mapping[str, Any], between: tuple[int, int]) -> Source:
    """`between`: where the tensors begin, and where the file ends."""
    start, end = (between[0] + offset for offset in entry["data_offsets"])
    kind, shape = _KINDS.get(entry["dtype"]), tuple(entry["shape"])
    if kind is None:
        raise _Misfit(f"has numbers of kind {entry['dtype']}, which can't be read")
    if not between[0] <= start <= end <= between[1] or torch.Size(shape).numel() * kind.itemsize != end - start:
        raise _Misfit("is cut short, or its header is damaged")
    return Source(descriptor, start, kind, shape, where)


def read_into(contents: Sequence[memoryview], descriptor: int, start: int, where: str) -> None:
    """Fills `contents` one after the other with the file's bytes from `start` on.

    Raises ValueError when the file, which a sentence calls `where`, ends before.
    """
    left = [content for content in contents if len(content)]
    while left:
        count = os.preadv(descriptor, left, start)
        if count == 0:
            raise ValueError(f"{where} is cut short")
        start += count
        while left and count >= len(left[0]):
            count -= len(left.pop(0))
        if left:
            left[0] = left[0][count:]
