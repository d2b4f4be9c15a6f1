"""A checkpoint's modules with LoRAs on and off."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffusers import UNet2DConditionModel
from torch import nn

from app.errors import CheckpointUnavailable
from workers.diffusion.loras.files import outfit, places
from workers.diffusion.loras.wardrobe import Outfit, wardrobe
from workers.diffusion.request import Lora

Stamp = tuple[int, int]  # modification time in ns and size in bytes: another stamp, another file


class Dressing:
    """Which LoRAs the UNet and the text encoders wear. A LoRA of weight 0 is none at all."""

    def __init__(self, unet: UNet2DConditionModel, text_encoders: Sequence[nn.Module]) -> None:
        self._modules: list[Any] = [unet, *text_encoders]
        self._stamps: dict[str, Stamp] = {}

    def check(self, loras: Sequence[Lora]) -> None:
        """To be called when a request comes: makes ready what the UNet is to wear, and looks whether files are new.

        Raises CheckpointUnavailable for a file that can't be used.
        """
        self._stamps |= {lora.path: _stamp(lora) for lora in loras}
        wardrobe(self._modules[0]).keep(*self._outfit(0, loras))

    def wear(self, loras: Sequence[Lora]) -> None:
        """The UNet's, until it is called again. Costs next to nothing while the same ones are worn."""
        wardrobe(self._modules[0]).wear(*self._outfit(0, loras))

    @contextmanager
    def text(self, loras: Sequence[Lora]) -> Iterator[None]:
        """Within, the text encoders wear `loras`; afterwards none."""
        try:
            for i, module in enumerate(self._modules[1:], start=1):
                wardrobe(module).wear(*self._outfit(i, loras))
            yield
        finally:
            for module in self._modules[1:]:
                wardrobe(module).undress()

    def text_key(self, loras: Sequence[Lora]) -> Hashable:
        """Equal for LoRAs that change the text encoders alike."""
        return self._key(1, loras)

    @property
    def bytes(self) -> int:
        """What changed weights take of memory."""
        return sum(wardrobe(module).bytes for module in self._modules)

    def forget(self) -> None:
        """All plain, and their memory given back: also to be called before the modules get other weights."""
        for module in self._modules:
            wardrobe(module).forget()

    def _outfit(self, module: int, loras: Sequence[Lora]) -> tuple[Hashable, Callable[[], Outfit]]:
        def make() -> Outfit:
            known = places(self._modules[0], self._modules[1:])
            strengths = [(lora, _strength(lora, module)) for lora in loras]
            return outfit([each for each in strengths if each[1]], module, known)

        return self._key(module, loras), make

    def _key(self, module: int, loras: Sequence[Lora]) -> Hashable:
        strengths = ((lora, _strength(lora, module)) for lora in loras)
        return tuple((lora.path, self._stamp(lora), strength) for lora, strength in strengths if strength)

    def _stamp(self, lora: Lora) -> Stamp:
        """As it was when a request last came with it: what is painted now goes on if the file goes away."""
        if lora.path not in self._stamps:
            self._stamps[lora.path] = _stamp(lora)
        return self._stamps[lora.path]


def _strength(lora: Lora, module: int) -> float:
    return lora.weight if module == 0 or lora.text_weight is None else lora.text_weight


def _stamp(lora: Lora) -> Stamp:
    try:
        stat = Path(lora.path).stat()
    except OSError as error:
        raise CheckpointUnavailable(f"The LoRA {lora.name} is not there any more: {error}.", params="loras") from error
    return stat.st_mtime_ns, stat.st_size
