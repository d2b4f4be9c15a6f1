"""The numbers of one LoRA for one weight → how that weight changes."""

from __future__ import annotations

from collections.abc import Mapping

import torch

Tensors = Mapping[str, torch.Tensor]  # by their part in the change, as `loras` names it


def changed(weight: torch.Tensor, tensors: Tensors, alpha: float | None = None) -> torch.Tensor:
    """What the LoRA adds to `weight` (float32) at full strength, in the weight's shape.

    `alpha` counts where the tensors bring none; without any, the change is taken as it is.
    Raises ValueError where it does not fit the weight or is of an unknown kind.
    """
    product, rank = _product(tensors)
    if "alpha" in tensors:
        alpha = float(tensors["alpha"])
    if rank and alpha is not None:
        product = product * (alpha / rank)
    if product.shape[0] != weight.shape[0] or product.numel() != weight.numel():
        raise ValueError(f"{tuple(product.shape)} does not fit {tuple(weight.shape)}")
    change = product.reshape(weight.shape)
    return _decomposed(weight, change, tensors["magnitude"]) if "magnitude" in tensors else change


def _product(tensors: Tensors) -> tuple[torch.Tensor, int | None]:
    """The change without its alpha, and the rank that alpha is counted in (None: it is not)."""
    if "down" in tensors and "up" in tensors:
        down, up = tensors["down"], tensors["up"]
        if "mid" in tensors:
            return _tucker(tensors["mid"], up.flatten(1), down.flatten(1)), len(down)
        return up.flatten(1) @ down.flatten(1), len(down)
    if "hada_w1_a" in tensors:
        one, other = (_side(tensors, f"hada_w{i}", f"hada_t{i}") for i in (1, 2))
        return one * other, len(tensors["hada_w1_b"])
    if "lokr_w1" in tensors or "lokr_w1_a" in tensors:
        return _kronecker(tensors)
    if "diff" in tensors:
        return tensors["diff"], None
    raise ValueError(f"a kind that is not known here ({', '.join(sorted(tensors))})")


def _side(tensors: Tensors, name: str, core: str) -> torch.Tensor:
    if core in tensors:  # LyCORIS stores both sides of its core with the rank in front
        return _tucker(tensors[core], tensors[f"{name}_a"].T, tensors[f"{name}_b"])
    return tensors[f"{name}_a"] @ tensors[f"{name}_b"]


def _kronecker(tensors: Tensors) -> tuple[torch.Tensor, int | None]:
    ranks = [len(tensors[name]) for name in ("lokr_w1_b", "lokr_w2_b") if name in tensors]
    one = tensors["lokr_w1"] if "lokr_w1" in tensors else _side(tensors, "lokr_w1", "lokr_t1")
    other = tensors["lokr_w2"] if "lokr_w2" in tensors else _side(tensors, "lokr_w2", "lokr_t2")
    one = one.reshape(*one.shape, *[1] * (other.dim() - one.dim()))
    return torch.kron(one.contiguous(), other.contiguous()), ranks[0] if ranks else None


def _tucker(core: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """(rank, rank, h, w), (out, rank) and (rank, in) → (out, in, h, w)."""
    return torch.einsum("abhw,oa,bi->oihw", core, up, down)


def _decomposed(weight: torch.Tensor, change: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """DoRA: the changed weight's directions with lengths of their own."""
    if magnitude.dim() == 1:
        magnitude = magnitude.reshape(-1, *[1] * (weight.dim() - 1))
    along = [i for i, size in enumerate(magnitude.shape) if size == 1]
    directed = weight + change
    decomposed: torch.Tensor = directed * (magnitude / torch.linalg.vector_norm(directed, dim=along, keepdim=True))
    return decomposed - weight
