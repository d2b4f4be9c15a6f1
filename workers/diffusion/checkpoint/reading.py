"""The tensors of .safetensors files by name, read one at a time.

They are read and not mapped into memory: of a file that is not in the disk's cache, and more so on a network disk, a
map brings some pages at a time and takes many times as long. What is read is a copy, so the file may be replaced
while its weights are in use.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

MAX_HEADER_BYTES = 100_000_000
_KINDS = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "BOOL": torch.bool},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8},
}


@dataclass(frozen=True, slots=True)
class _Place:
    descriptor: int
    start: int  # byte of the file
    kind: torch.dtype
    shape: tuple[int, ...]


class Tensors:
    """The tensors of all files at `paths`; `files` closes them. `where` is how a sentence calls the files.

    Raises ValueError for a file whose header is not in order, or that is not as long as its header says; OSError.
    """

    def __init__(self, paths: Sequence[Path], files: ExitStack, where: str = "it") -> None:
        self.where = where
        self._places: dict[str, _Place] = {}
        for path in paths:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            files.callback(os.close, descriptor)
            self._places |= _places(descriptor, where)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def first(self, *spellings: str, third: int | None = None) -> torch.Tensor:
        """The tensor under the first of these names that is there, or one of its three equal parts by its rows.

        Raises KeyError with the first name; ValueError when the file ends before it.
        """
        name = next((each for each in spellings if each in self._places), spellings[0])
        place = self._places.get(name)
        if place is None:
            raise KeyError(f"{self.where} lacks weights, such as {name}")
        shape, start = place.shape, place.start
        if third is not None:
            shape = (shape[0] // 3, *shape[1:])
        tensor = torch.empty(shape, dtype=place.kind)
        content = tensor.reshape(-1).view(torch.uint8).numpy().data
        if not _fill(content, place.descriptor, start + (third or 0) * len(content)):
            raise ValueError(f"{self.where} is cut short")
        return tensor


def _places(descriptor: int, where: str) -> dict[str, _Place]:
    size = os.fstat(descriptor).st_size
    length = int.from_bytes(os.pread(descriptor, 8, 0), "little")
    if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
        raise ValueError(f"the header of {where} can't be read")
    try:
        header: dict[str, dict[str, Any]] = json.loads(os.pread(descriptor, length, 8))
        header.pop("__metadata__", None)
        return {name: _place(descriptor, entry, (8 + length, size)) for name, entry in header.items()}
    except _Misfit as error:
        raise ValueError(f"{where} {error}") from None
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"the header of {where} can't be read") from error


class _Misfit(Exception):
    """A tensor that can't be in the file as the header says."""


def _place(descriptor: int, entry: Mapping[str, Any], between: tuple[int, int]) -> _Place:
    """`between`: where the tensors begin, and where the file ends."""
    start, end = (between[0] + offset for offset in entry["data_offsets"])
    kind, shape = _KINDS.get(entry["dtype"]), tuple(entry["shape"])
    if kind is None:
        raise _Misfit(f"has numbers of kind {entry['dtype']}, which can't be read")
    if not between[0] <= start <= end <= between[1] or torch.Size(shape).numel() * kind.itemsize != end - start:
        raise _Misfit("is cut short, or its header is damaged")
    return _Place(descriptor, start, kind, shape)


def _fill(content: memoryview, descriptor: int, start: int) -> bool:
    """Fills `content` with the file's bytes from `start` on; False where the file ends before."""
    done = 0
    while done < len(content):
        count = os.preadv(descriptor, [content[done:]], start + done)
        if count == 0:
            return False
        done += count
    return True
