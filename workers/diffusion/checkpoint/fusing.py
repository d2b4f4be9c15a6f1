"""Queries, keys and values of an attention by one multiplication instead of three, where their weights lie in a row.

The modules keep their names and weights: LoRAs find `to_q`, `to_k` and `to_v` as ever. One that a LoRA has changed lies
elsewhere, and is multiplied by itself for as long as that lasts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch.nn import functional

from workers.diffusion.checkpoint.shells import Shell, shell_of
from workers.diffusion.memory import is_out_of_memory

logger = logging.getLogger(__name__)

_PAYS = 0.99  # of the time without
_TRIES = 5
_ROWS = 2
_TOKENS = 77

_verdicts: dict[tuple[Shell | None, torch.dtype, str], bool] = {}


class Fused(AttnProcessor2_0):  # type: ignore[misc]
    """For attentions as Stable Diffusion's UNets have them; all else goes the usual way."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        *args: Any,
        **more: Any,
    ) -> torch.Tensor:
        layers = (attn.to_q, attn.to_k, attn.to_v) if encoder_hidden_states is None else (attn.to_k, attn.to_v)
        weight = in_a_row(*(layer.weight for layer in layers)) if _is_plain(attn, hidden_states) else None
        if weight is None or attention_mask is not None:
            plain: torch.Tensor = super().__call__(
                attn, hidden_states, encoder_hidden_states, attention_mask, *args, **more
            )
            return plain
        if encoder_hidden_states is None:
            query, key, value = functional.linear(hidden_states, weight).chunk(3, dim=-1)
        else:
            query = attn.to_q(hidden_states)
            key, value = functional.linear(encoder_hidden_states, weight).chunk(2, dim=-1)
        query, key, value = (_by_head(each, attn.heads) for each in (query, key, value))
        seen = functional.scaled_dot_product_attention(query, key, value)
        mixed: torch.Tensor = attn.to_out[0](seen.transpose(1, 2).flatten(2))
        return mixed


def _by_head(numbers: torch.Tensor, heads: int) -> torch.Tensor:
    return numbers.view(*numbers.shape[:2], heads, -1).transpose(1, 2)


def in_a_row(*weights: torch.Tensor) -> torch.Tensor | None:
    """The matrix that equal ones are together, if they lie one behind the other in one piece of memory."""
    first, size = weights[0], weights[0].nbytes
    if any(each.shape != first.shape or not each.is_contiguous() for each in weights):
        return None
    storage = first.untyped_storage().data_ptr()
    for i, each in enumerate(weights):
        if each.data_ptr() != first.data_ptr() + i * size or each.untyped_storage().data_ptr() != storage:
            return None
    return first.detach().as_strided((len(weights) * first.shape[0], first.shape[1]), first.stride())


def fuse(unet: UNet2DConditionModel) -> None:
    unet.set_attn_processor(Fused())


def unfuse(unet: UNet2DConditionModel) -> None:
    unet.set_attn_processor(AttnProcessor2_0())


def fusing_pays(unet: UNet2DConditionModel, device: torch.device) -> bool:
    """Measured once for each kind of UNet, with a small call: there asking for the work takes longest. False where the
    measuring fails.
    """
    name = (shell_of(unet), unet.dtype, str(device))
    if name not in _verdicts:
        _verdicts[name] = _is_faster(unet, device)
    return _verdicts[name]


@torch.inference_mode()
def _is_faster(unet: UNet2DConditionModel, device: torch.device) -> bool:
    try:
        given = _call_for(unet, device)
        plain_s: list[float] = []
        fused_s: list[float] = []
        for _ in range(_TRIES + 1):
            for change, took_s in ((unfuse, plain_s), (fuse, fused_s)):
                change(unet)
                took_s.append(_seconds(lambda: unet(**given), device))
    except RuntimeError as error:
        if not is_out_of_memory(error):
            logger.warning("fused projections could not be tried", extra={"error": str(error)[:200]})
        return False
    finally:
        unfuse(unet)
    pays = median(fused_s[1:]) < _PAYS * median(plain_s[1:])  # the first of each sets libraries up
    told = {"action": "fusing_tried", "kept": pays, "plain_s": median(plain_s[1:]), "fused_s": median(fused_s[1:])}
    logger.info("fused projections were tried", extra=told)
    return pays


def _call_for(unet: UNet2DConditionModel, device: torch.device) -> dict[str, Any]:
    config, kind = unet.config, {"device": device, "dtype": unet.dtype}
    given = {
        "sample": torch.zeros(_ROWS, config.in_channels, config.sample_size, config.sample_size, **kind),
        "timestep": torch.full((_ROWS,), 500.0, device=device),
        "encoder_hidden_states": torch.zeros(_ROWS, _TOKENS, config.cross_attention_dim, **kind),
        "return_dict": False,
    }
    if config.addition_embed_type == "text_time":
        width = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        added = {"text_embeds": torch.zeros(_ROWS, width, **kind), "time_ids": torch.zeros(_ROWS, 6, **kind)}
        given["added_cond_kwargs"] = added
    return given


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    began_s = time.monotonic()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic() - began_s


def _is_plain(attn: Attention, hidden_states: torch.Tensor) -> bool:
    """Nothing but projections, attention and a projection back, as in all of these UNets' transformers."""
    return bool(
        hidden_states.ndim == 3
        and attn.to_q.bias is None
        and attn.spatial_norm is None
        and attn.group_norm is None
        and attn.norm_q is None
        and attn.norm_k is None
        and not attn.norm_cross
        and not attn.residual_connection
        and attn.rescale_output_factor == 1
    )
