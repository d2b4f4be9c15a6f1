"""Tensors of one file → a .safetensors file with the same names, in another precision, a few megabytes at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from app.checkpoints.pickles import SIZES
from app.checkpoints.torch_files import Stored

_EMA, _TWIN = "model_ema.", "model.diffusion_model."
_AT_ONCE = 4 << 20  # numbers
_LONGEST_SPAN = 512 << 20  # bytes, of a tensor whose numbers don't lie in order
_ALIGNMENT = 8
_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}

OnProgress = Callable[[int, int], None]
Numbers = NDArray[Any]


class NothingToConvert(Exception):
    """The file holds nothing that this can write. Its text completes a sentence that begins with the file's name."""


class _TooLarge(Exception):
    """The numbers of the tensor so called go beyond what half precision can hold."""


def write_safetensors(
    source: BinaryIO, tensors: Mapping[str, Stored], target: BinaryIO, kind: str, on_progress: OnProgress
) -> int:
    """Writes them with floating-point numbers as `kind`; returns how many. Raises NothingToConvert, OSError.

    A moving average (EMA) of weights that are there themselves is left out. Where a tensor's numbers would overflow it
    keeps its own precision.
    """
    wanted = _wanted(tensors)
    if not wanted:
        raise NothingToConvert("holds no weights.")
    if strange := {tensor.kind for tensor in wanted.values()} - SIZES.keys():
        raise NothingToConvert(f"holds numbers of a kind that is not known ({min(strange)}).")
    kinds = {name: kind if tensor.kind in _NUMPY else tensor.kind for name, tensor in wanted.items()}
    while True:
        try:
            target.seek(0)
            target.write(_header(wanted, kinds))
            _write_all(source, wanted, target, kinds, on_progress)
            return len(wanted)
        except _TooLarge as error:
            name = str(error)
            kinds[name] = wanted[name].kind


def _wanted(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    has_twins = any(name.startswith(_TWIN) for name in tensors)
    return {name: tensor for name, tensor in tensors.items() if not (has_twins and name.startswith(_EMA))}


def _header(tensors: Mapping[str, Stored], kinds: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.length * SIZES[kinds[name]]
        entries[name] = {"dtype": kinds[name], "shape": tensor.shape, "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _write_all(
    source: BinaryIO,
    tensors: Mapping[str, Stored],
    target: BinaryIO,
    kinds: Mapping[str, str],
    on_progress: OnProgress,
) -> None:
    done, of = 0, sum(tensor.length * SIZES[tensor.kind] for tensor in tensors.values())
    for name, tensor in tensors.items():
        for piece in _pieces(source, tensor):
            cast = _cast(piece, tensor.kind, kinds[name])
            if cast is None:
                raise _TooLarge(name)
            target.write(cast.data.cast("B"))
            done += piece.nbytes
            on_progress(done, of)


def _pieces(source: BinaryIO, tensor: Stored) -> Iterator[Numbers]:
    """The numbers of a tensor in their order, one dimension, as they lie in the file. None for an empty tensor."""
    kind = np.dtype(_NUMPY.get(tensor.kind, f"V{SIZES[tensor.kind]}"))
    if not tensor.length:
        return
    source.seek(tensor.start)
    if tensor.span == tensor.length * kind.itemsize and _is_in_order(tensor):
        for first in range(0, tensor.length, _AT_ONCE):
            yield _read(source, kind, min(_AT_ONCE, tensor.length - first))
        return
    if tensor.span > _LONGEST_SPAN:
        raise NothingToConvert("holds a tensor whose numbers are strewn over too much of the file.")
    run = _read(source, kind, tensor.span // kind.itemsize)
    strides = [stride * kind.itemsize for stride in tensor.strides]
    yield np.ascontiguousarray(np.lib.stride_tricks.as_strided(run, tensor.shape, strides)).reshape(-1)


def _is_in_order(tensor: Stored) -> bool:
    expected = 1
    for side, stride in zip(reversed(tensor.shape), reversed(tensor.strides), strict=True):
        if side > 1 and stride != expected:
            return False
        expected *= side
    return True


def _read(source: BinaryIO, kind: np.dtype[Any], count: int) -> Numbers:
    piece = np.empty(count, kind)
    view = piece.data.cast("B")
    while view:
        read = source.readinto(view)  # type: ignore[attr-defined]
        if not read:
            raise OSError("the file has become shorter")
        view = view[read:]
    return piece


def _cast(piece: Numbers, kind: str, to: str) -> Numbers | None:
    """None where finite numbers would become infinite."""
    if kind == to:
        return piece
    single = _as_float32(piece, kind)
    if to == "F32":
        return single
    with np.errstate(over="ignore", invalid="ignore"):
        cast = _as_bfloat16(single) if to == "BF16" else single.astype("<f2")
    if to == "F16" and (np.isinf(cast) & np.isfinite(single)).any():
        return None
    return cast


def _as_float32(piece: Numbers, kind: str) -> Numbers:
    if kind == "BF16":
        return (piece.astype("<u4") << 16).view("<f4")
    return piece.astype("<f4", copy=False)


def _as_bfloat16(single: Numbers) -> Numbers:
    """The upper half of each number's bits, rounded to the nearest, ties to even; what is no number stays none."""
    bits = single.view("<u4")
    rounded: Numbers = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    rounded[np.isnan(single)] = 0x7FC0
    return rounded
