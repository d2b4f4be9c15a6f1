"""What a prompt becomes before a UNet can follow it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Conditioning:
    """A prompt as numbers: `embedding` of (1, tokens, width), and for SDXL `pooled` of (1, width).

    `tokens` is a multiple of 77: a long prompt is several chunks, one behind the other.
    """

    embedding: torch.Tensor
    pooled: torch.Tensor | None = None

    @property
    def bytes(self) -> int:
        return sum(part.numel() * part.element_size() for part in (self.embedding, self.pooled) if part is not None)


def as_rows(conditionings: Sequence[Conditioning]) -> torch.Tensor:
    """The embeddings as (rows, tokens, width). A shorter one is repeated until it is as long as the others.

    Attention over keys that all come twice is the attention over each once, so repeating changes nothing; padding
    with zeros would.
    """
    tokens = math.lcm(*(each.embedding.shape[1] for each in conditionings))
    return torch.cat([each.embedding.repeat(1, tokens // each.embedding.shape[1], 1) for each in conditionings])
