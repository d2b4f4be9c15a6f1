"""What modules take in memory, and how equal tensors take it once, whichever checkpoints they belong to.

Many checkpoints keep the autoencoder and the text encoder of the one that they were made from: a quarter of their size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from weakref import WeakValueDictionary

import torch
from torch import nn

from workers.diffusion.checkpoint.assembly import Address
from workers.diffusion.checkpoint.loading import Components

Look = tuple[torch.Size, tuple[int, ...], torch.dtype, torch.device, bytes]
Pieces = dict[Address, int]
"""Bytes of each piece of memory."""

_SMALL = 16 * 1024  # bytes; below that there is nothing to win
_SAMPLES = 16


class Shelf:
    """The tensors of one checkpoint in memory, found by what they look like at a few places."""

    def __init__(self, components: Components) -> None:
        self._modules = modules_of(components)
        self._by_look: WeakValueDictionary[Look, torch.Tensor] = WeakValueDictionary()

    def share(self, others: Iterable[Shelf]) -> int:
        """Takes the memory of other shelves' tensors wherever its own are equal; returns how many bytes that saves.

        The modules and their parameters stay its own: giving one of them other numbers changes nobody else's. But
        nothing may write into the memory of a tensor.
        """
        known, saved = [other._by_look for other in others], 0
        for slots, name, tensor in _tensors(self._modules):
            if tensor.nbytes < _SMALL:
                continue
            look = _look(tensor)
            candidates = (shelf.get(look) for shelf in known)
            equal = next((each for each in candidates if each is not None and _are_equal(each, tensor)), None)
            if equal is not None and equal.data_ptr() != tensor.data_ptr():
                saved += tensor.nbytes
                slots[name] = tensor = _another(equal, isinstance(tensor, nn.Parameter))
            self._by_look[look] = tensor
        return saved

    def pieces(self) -> Pieces:
        """What the tensors lie in."""
        storages = (tensor.untyped_storage() for _, _, tensor in _tensors(self._modules))
        return {(each.device.type, each.data_ptr()): each.nbytes() for each in storages}


def modules_of(components: Components) -> list[nn.Module]:
    """The modules of a checkpoint, in the order of its fields."""
    values = (getattr(components, field.name) for field in fields(components))
    each = (part for value in values for part in (value if isinstance(value, tuple) else (value,)))
    return [part for part in each if isinstance(part, nn.Module)]


def _tensors(modules: Iterable[nn.Module]) -> Iterator[tuple[dict[str, torch.Tensor | None], str, torch.Tensor]]:
    """Every tensor, with the place where its module finds it."""
    for part in (part for module in modules for part in module.modules()):
        for slots in (part._parameters, part._buffers):
            for name, tensor in list(slots.items()):
                if tensor is not None:
                    yield slots, name, tensor  # type: ignore[misc]


def _look(tensor: torch.Tensor) -> Look:
    """The same for equal tensors that lie in the same order; for others nearly always different."""
    flat = tensor.detach().as_strided((tensor.numel(),), (1,))
    samples = flat[:: max(1, tensor.numel() // _SAMPLES)].float().cpu().numpy().tobytes()
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device, samples


def _are_equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """What was put onto a shelf may have got other numbers since."""
    same_kind = (one.dtype, one.device, one.stride()) == (other.dtype, other.device, other.stride())
    return same_kind and torch.equal(one, other)


def _another(tensor: torch.Tensor, is_parameter: bool) -> torch.Tensor:
    """The same memory, as a tensor of its own."""
    return nn.Parameter(tensor.detach(), requires_grad=False) if is_parameter else tensor.detach()
