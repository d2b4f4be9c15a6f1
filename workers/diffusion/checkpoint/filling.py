"""Weights on their way from files to where they will be: in one pass, by several threads.

On a CPU what has the precision that is wanted already is read straight into its place; all else goes through a piece
of memory that is still in the core's own cache when it is cast. To a GPU it goes through memory that the GPU fetches
it from by itself (pinned), while the next piece is read, and is cast there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import torch

from workers.diffusion.checkpoint.reading import Source, read_into
from workers.diffusion.threads import usable_cores

_PIECE = 1 << 20  # bytes of a file that are read at once
_MOST_PARTS = 512  # of one read: the system takes 1024
_CAST = 1 << 15  # numbers: of more than that torch makes a team of threads, which wait for each other on a busy machine
_THREADS = 4
_PIECES = 32  # for a thread at least: several threads with small tensors wait for the interpreter, and not for memory
_BUFFERS = 2  # of a thread, for a GPU: one is fetched from while the other is read into


class _Part(NamedTuple):
    """Numbers of a file, and their place: a tensor of one dimension."""

    descriptor: int
    start: int  # byte of the file
    kind: torch.dtype
    place: torch.Tensor
    where: str
    numbers: int
    size: int  # in bytes of the file
    is_direct: bool  # it needs no cast, and no way to another device


@dataclass(frozen=True, slots=True, eq=False)
class _Whole:
    """A tensor whose numbers lie in another order than in the file."""

    source: Source
    target: torch.Tensor


class Filling:
    """Tensors of one device that wait for what files have for them."""

    def __init__(self, device: torch.device, *, pinned: bool = True) -> None:
        self._device = device
        self._pinned = pinned and device.type == "cuda"
        self._parts: list[_Part] = []
        self._wholes: list[_Whole] = []

    def add(self, source: Source, target: torch.Tensor) -> None:
        """`target` has as many numbers as `source`. `run` fills it."""
        if target.is_contiguous() and not source.transposed:
            self._parts.append(_part(source, target))
        else:
            self._wholes.append(_Whole(source, target))

    def run(self) -> None:
        """Raises ValueError for a file that is cut short, OSError, and RuntimeError where memory runs out."""
        work: list[Sequence[_Part] | _Whole] = [*self._wholes, *_pieces(self._parts)]
        self._parts, self._wholes = [], []
        count = min(_THREADS, usable_cores(), len(work) // _PIECES)
        if count <= 1:
            self._do(iter(work))
            return
        with ThreadPoolExecutor(count, "filling") as threads:
            for each in [threads.submit(self._do, islice(work, i, None, count)) for i in range(count)]:
                each.result()

    @torch.inference_mode()
    def _do(self, work: Iterator[Sequence[_Part] | _Whole]) -> None:
        carrier = _Carrier(self._device, self._pinned)
        for each in work:
            if isinstance(each, _Whole):
                _fill_whole(carrier, each)
            else:
                carrier.carry(each)


class _Carrier:
    """One thread's."""

    def __init__(self, device: torch.device, pinned: bool) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.set_device(device)
        self._buffers = [_Buffer(pinned) for _ in range(_BUFFERS if pinned else 1)]

    def carry(self, piece: Sequence[_Part]) -> None:
        """All of its parts lie one behind the other, and go straight into their places or none does."""
        first = piece[0]
        if first.is_direct:
            read_into([_bytes_of(part.place) for part in piece], first.descriptor, first.start, first.where)
            return
        buffer = self._buffers[0]
        self._buffers.append(self._buffers.pop(0))
        read = buffer.filled(piece)
        if self._device.type != "cpu":
            read = buffer.sent(read, self._device)
        if all(part.kind == first.kind and part.numbers <= _CAST for part in piece):
            numbers = torch.split(read.view(first.kind), [part.numbers for part in piece])
            torch._foreach_copy_([part.place for part in piece], list(numbers))
            return
        for part in piece:
            at = part.start - first.start
            _cast(read[at : at + part.size].view(part.kind), part.place)


class _Buffer:
    def __init__(self, pinned: bool) -> None:
        try:
            self._memory = torch.empty(_PIECE, dtype=torch.uint8, pin_memory=pinned)
        except RuntimeError:  # a system may allow little of what is pinned, or none
            self._memory = torch.empty(_PIECE, dtype=torch.uint8)
        self._content = self._memory.numpy().data
        self._fetched: torch.cuda.Event | None = None

    def filled(self, piece: Sequence[_Part]) -> torch.Tensor:
        """The piece's bytes, once the GPU has what was here before."""
        if self._fetched is not None:
            self._fetched.synchronize()
        size = sum(part.size for part in piece)
        read_into([self._content[:size]], piece[0].descriptor, piece[0].start, piece[0].where)
        return self._memory[:size]

    def sent(self, read: torch.Tensor, device: torch.device) -> torch.Tensor:
        there = read.to(device, non_blocking=self._memory.is_pinned())
        if self._memory.is_pinned():
            self._fetched = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._fetched.record()
        return there


def _fill_whole(carrier: _Carrier, whole: _Whole) -> None:
    source, target = whole.source, whole.target
    between = torch.empty(source.shape, dtype=source.kind, device=target.device)
    for piece in _pieces([_part(source, between)]):
        carrier.carry(piece)
    target.copy_((between.T if source.transposed else between).reshape(target.shape))


def _cast(numbers: torch.Tensor, place: torch.Tensor) -> None:
    if numbers.numel() <= _CAST or place.device.type != "cpu":
        place.copy_(numbers)
        return
    for some, where in zip(torch.split(numbers, _CAST), torch.split(place, _CAST), strict=True):
        where.copy_(some)


def _part(source: Source, target: torch.Tensor) -> _Part:
    descriptor, start, kind, _, where, _ = source
    place = target.detach().view(-1)
    count = place.numel()
    is_direct = place.dtype == kind and place.device.type == "cpu"
    return _Part(descriptor, start, kind, place, where, count, count * kind.itemsize, is_direct)


def _pieces(parts: Sequence[_Part]) -> Iterator[Sequence[_Part]]:
    """What one read brings: small ones together, as they lie in the file, and large ones in slices."""
    piece: list[_Part] = []
    end = size = 0
    in_order = sorted(parts, key=lambda each: (each.descriptor, each.start))
    for part in (each for whole in in_order for each in _slices(whole)):
        if piece and not (_goes_with(part, piece[0], end) and size + part.size <= _PIECE and len(piece) < _MOST_PARTS):
            yield piece
            piece, size = [], 0
        piece.append(part)
        size += part.size
        end = part.start + part.size
    if piece:
        yield piece


def _goes_with(part: _Part, first: _Part, end: int) -> bool:
    """Behind what ends there in the same file? Numbers are cast from places that are multiples of their size."""
    return (
        part.descriptor == first.descriptor
        and part.start == end
        and part.is_direct == first.is_direct
        and (part.is_direct or (part.start - first.start) % part.kind.itemsize == 0)
    )


def _slices(part: _Part) -> Iterator[_Part]:
    if part.size <= _PIECE:
        if part.size:
            yield part
        return
    start, width = part.start, part.kind.itemsize
    for place in torch.split(part.place, _PIECE // width):
        count = place.numel()
        yield part._replace(start=start, place=place, numbers=count, size=count * width)
        start += count * width


def _bytes_of(place: torch.Tensor) -> memoryview:
    content: memoryview = place.view(torch.uint8).numpy().data
    return content
