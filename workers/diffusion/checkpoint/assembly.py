"""Modules get their weights: new modules, or those of a checkpoint that makes way for this one, in the same memory."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from workers.diffusion.checkpoint.filling import Filling
from workers.diffusion.checkpoint.parts import Part
from workers.diffusion.checkpoint.shells import Slot, shell, shell_of

Address = tuple[str, int]
"""Of a piece of memory: the kind of device, and where on it."""


@dataclass(slots=True)
class Estate:
    """What a checkpoint leaves: its modules, and their memory but for what is `foreign`, because others use it, too."""

    modules: list[nn.Module] = field(default_factory=list)
    foreign: Collection[Address] = ()


class Assembly:
    """The modules of one checkpoint on one device."""

    def __init__(self, device: torch.device, estate: Estate | None = None, *, pinned: bool = True) -> None:
        self._device = device
        self._estate = estate or Estate()
        self._filling = Filling(device, pinned=pinned)
        self._row: list[torch.Tensor] = []  # memory for the next weights, which lie together

    def module(self, kind: type[nn.Module], part: Part, dtype: torch.dtype) -> Any:
        """Complete after `fill`. Raises KeyError for a weight that is missing, ValueError for one of another shape."""
        kin = shell(kind, part.config)
        left = next((each for each in self._estate.modules if shell_of(each) is kin), None)
        if left is not None:
            self._estate.modules.remove(left)
        module = left or kin.copy()
        parts = list(module.modules())
        for slot in kin.slots:
            source = part.find(slot.name)
            if source.shape != slot.shape and _squeezed(source.wanted_shape) != _squeezed(slot.shape):
                of = "" if source.where == "it" else f" of {source.where}"
                raise ValueError(f"{slot.name}{of} is {source.wanted_shape} where {tuple(slot.shape)} belongs")
            slots: dict[str, Any] = parts[slot.part]._parameters if slot.is_parameter else parts[slot.part]._buffers
            place = self._place(slot, slots[slot.leaf], dtype)
            self._filling.add(source, place)
            slots[slot.leaf] = nn.Parameter(place, requires_grad=False) if slot.is_parameter else place
        for each in parts:
            each._buffers.update(
                {name: told if told is None else told.to(self._device) for name, told in each._buffers.items()}
            )
        return module

    def fill(self) -> None:
        """Reads all weights of all modules. Raises ValueError for a file that is cut short, OSError, RuntimeError."""
        self._filling.run()

    def _place(self, slot: Slot, before: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Memory for a weight: where the one before lay, if that is as large and nobody else's."""
        if slot.together == 0 and self._row:
            return self._row.pop(0)
        if before.device.type == self._device.type and before.dtype == dtype and not self._is_foreign(before):
            return before.detach()
        if slot.together <= 1:
            return torch.empty(slot.shape, dtype=dtype, device=self._device)
        rows, *rest = slot.shape
        row = torch.empty((slot.together * rows, *rest), dtype=dtype, device=self._device)
        first, *self._row = torch.split(row, rows)
        return first

    def _is_foreign(self, weight: torch.Tensor) -> bool:
        return (weight.device.type, weight.untyped_storage().data_ptr()) in self._estate.foreign


def _squeezed(shape: Collection[int]) -> list[int]:
    """Attention weights are 1 x 1 convolutions in some files and matrices in others."""
    return [side for side in shape if side != 1]
