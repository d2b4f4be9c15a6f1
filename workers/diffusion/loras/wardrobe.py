"""A module's weights as they are, and as LoRAs change them: put on and taken off by pointer.

Taking off gives back the very tensors that were there before, so nothing is left of a LoRA, not even rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import nn

from workers.diffusion.prompts.remembered import Remembered

KEPT_BYTES = 2 << 30  # of changed weights that are not worn now, for each module


@dataclass(frozen=True, slots=True)
class Outfit:
    """Some of a module's parameters, each with other numbers of its shape, dtype and device."""

    weights: Sequence[tuple[nn.Parameter, torch.Tensor]] = ()

    @property
    def bytes(self) -> int:
        return sum(weight.numel() * weight.element_size() for _, weight in self.weights)


class Wardrobe:
    """Of one module; `wardrobe` finds it. Two pipelines that share a module share what it wears, too."""

    def __init__(self) -> None:
        self._worn: Hashable = ()
        self._plain: list[tuple[nn.Parameter, torch.Tensor]] = []
        self._outfits: Remembered[Outfit] = Remembered(KEPT_BYTES)

    @property
    def bytes(self) -> int:
        """What the outfits take of memory, the one that is worn included."""
        return self._outfits.bytes

    def wear(self, key: Hashable, make: Callable[[], Outfit]) -> None:
        """Changes the module's weights to the outfit of `key`, which is made from the plain ones where it is not kept.

        An empty key is the plain module. Whatever `make` raises, the module is plain afterwards.
        """
        if key == self._worn:
            return
        self.undress()
        if not key:
            return
        outfit = self._outfits.get(key, make)
        self._plain = [(parameter, parameter.data) for parameter, _ in outfit.weights]
        for parameter, weight in outfit.weights:
            parameter.data = weight
        self._worn = key

    def keep(self, key: Hashable, make: Callable[[], Outfit]) -> None:
        """Makes the outfit of `key` ready to be worn. The module may be plain afterwards."""
        if key:
            self._outfits.get(key, lambda: self._made(make))

    def _made(self, make: Callable[[], Outfit]) -> Outfit:
        self.undress()
        return make()

    def undress(self) -> None:
        for parameter, plain in self._plain:
            parameter.data = plain
        self._plain, self._worn = [], ()

    def forget(self) -> None:
        """Plain again, and nothing kept: to be called before the module gets other weights, or for its memory."""
        self.undress()
        self._outfits.forget()


_wardrobes: WeakKeyDictionary[nn.Module, Wardrobe] = WeakKeyDictionary()


def wardrobe(module: nn.Module) -> Wardrobe:
    return _wardrobes.setdefault(module, Wardrobe())
