"""What a prompt becomes: the numbers that steer a UNet."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Conditioning:
    """One prompt, encoded. `tokens` is a multiple of 77: a long prompt is several chunks, one behind the other."""

    embedding: torch.Tensor  # (1, tokens, width)
    pooled: torch.Tensor | None = None  # (1, width) of the whole prompt, for Stable Diffusion XL alone

    @property
    def bytes(self) -> int:
        return sum(part.numel() * part.element_size() for part in (self.embedding, self.pooled) if part is not None)
