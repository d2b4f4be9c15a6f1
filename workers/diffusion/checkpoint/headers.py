"""What a `.safetensors` file says of its tensors. No torch here: any process may ask."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import msgspec

_MOST_BYTES = 100_000_000  # the limit of the safetensors library itself
_KEPT = 4  # of the files asked last: each is asked how large it is first, and where its weights lie then

_headers: dict[tuple[int, ...], Mapping[str, Any]] = {}


def header_of(descriptor: int) -> Mapping[str, Any]:
    """What a `.safetensors` file says of its tensors, with "__metadata__". Raises ValueError where it says nothing."""
    stat = os.fstat(descriptor)
    known = (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)
    if known not in _headers:
        length = header_length(descriptor)
        if not 2 <= length <= min(_MOST_BYTES, stat.st_size - 8):
            raise ValueError("its header can't be read")
        try:
            header = msgspec.json.decode(os.pread(descriptor, length, 8), type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise ValueError("its header can't be read") from error
        while len(_headers) >= _KEPT:
            _headers.pop(next(iter(_headers)), None)
        _headers[known] = header
    return _headers[known]


def header_length(descriptor: int) -> int:
    return int.from_bytes(os.pread(descriptor, 8, 0), "little")
