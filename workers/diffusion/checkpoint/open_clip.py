"""OpenCLIP's text encoders, as the single files of Stable Diffusion 2 and of SDXL hold them.

Queries, keys and values lie in one matrix there, one above the other, and the projection is transposed. SD 2's last
layer is never asked (its UNet was trained on what the one before it says), and not part of transformers' form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch

MARK = "ln_final.weight"  # a tensor that only OpenCLIP's form has

_ENDS = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": MARK,
    "final_layer_norm.bias": "ln_final.bias",
    "text_projection.weight": "text_projection",
}
_INNER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_THIRDS = {"q_proj": 0, "k_proj": 1, "v_proj": 2}
_LAYER = re.compile(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a weight lies: under a name, there perhaps as one of three of equal height, or transposed."""

    name: str
    third: int | None = None
    transposed: bool = False


def place(name: str) -> Place:
    """transformers' name of a CLIP weight → its place among OpenCLIP's. Raises KeyError for a name of another kind."""
    name = name.removeprefix("text_model.")
    found = _LAYER.fullmatch(name)
    if found is None:
        return Place(_ENDS[name], transposed=name == "text_projection.weight")
    layer, inner, end = found.groups()
    third = _THIRDS.get(inner.removeprefix("self_attn."))
    prefix = f"transformer.resblocks.{layer}."
    if third is not None:
        return Place(f"{prefix}attn.in_proj_{end}", third)
    return Place(f"{prefix}{_INNER[inner]}.{end}")


def to_open_clip(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """transformers' weights of a text encoder → OpenCLIP's."""
    gathered: dict[str, dict[int, torch.Tensor]] = {}
    for name, weight in weights.items():
        at = place(name)
        gathered.setdefault(at.name, {})[at.third or 0] = weight.T if at.transposed else weight
    return {name: torch.cat([parts[i] for i in sorted(parts)]) for name, parts in gathered.items()}
