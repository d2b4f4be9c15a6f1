"""LoRA files → changed weights.

A file says for each weight that it changes by which name. There are three ways to name them (kohya's with underlines,
diffusers' with dots, the original ones), so a checkpoint's modules are listed under all of them, and a file's names are
looked up. A file for another family is known by its names and shapes, and refused.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from diffusers import UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from torch import nn

from app.errors import CheckpointUnavailable
from workers.diffusion.checkpoint import names
from workers.diffusion.loras.low_rank import changed
from workers.diffusion.loras.wardrobe import Outfit
from workers.diffusion.memory import is_out_of_memory
from workers.diffusion.request import Lora

_PARTS = {
    **dict.fromkeys(("lora_down", "lora_A", "lora.down", "lora_linear_layer.down"), "down"),
    **dict.fromkeys(("lora_up", "lora_B", "lora.up", "lora_linear_layer.up"), "up"),
    **dict.fromkeys(("dora_scale", "lora_magnitude_vector"), "magnitude"),
    **{"lora_mid": "mid", "alpha": "alpha", "diff": "diff", "diff_b": "bias"},
    **{part: part for part in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")},
    **{part: part for part in ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")},
}
_KEY = re.compile(rf"(?:base_model\.model\.)?(.+?)\.({'|'.join(map(re.escape, _PARTS))})(?:\.default)?(?:\.weight)?")
_OLD_KEY = re.compile(r"(.+?)(?:\.processor)?\.(to_q|to_k|to_v|to_out)_lora\.(down|up)\.weight")
_CROSS_ATTENTION = re.compile(r"attn2[._]to_k$")
_OLD_PROJECTION = re.compile(r"(?<=self_attn\.)(q_proj|k_proj|v_proj|out_proj)$")
_OLD_PROJECTIONS = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out.0"}
_WITH_WEIGHTS = (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm)
_FAMILIES = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file's name leads: to a layer of the modules' `module`-th, the UNet being the first."""

    module: int
    weight: nn.Parameter
    bias: nn.Parameter | None


@dataclass(frozen=True, slots=True)
class Places:
    by_name: Mapping[str, Place]
    width: int  # of the embeddings that the UNet reads, by which families differ


def places(unet: UNet2DConditionModel, text_encoders: Sequence[nn.Module]) -> Places:
    """All layers of the modules that have weights, under each name that a file may call them by."""
    found: dict[str, Place] = {}
    original = names.unet_names(unet.config)
    for name, layer in _layers(unet):
        old = original(f"{name}.weight").removeprefix(names.UNET).removesuffix(".weight")
        for each in (name, f"unet.{name}", f"diffusion_model.{old}", _kohya("unet", old), _kohya("unet", name)):
            found[each] = Place(0, layer.weight, layer.bias)
    for i, encoder in enumerate(text_encoders, start=1):
        for name, layer in _layers(encoder):
            for each in _text_names(name, i):
                found[each] = Place(i, layer.weight, layer.bias)
    return Places(found, unet.config.cross_attention_dim)


def outfit(loras: Sequence[tuple[Lora, float]], module: int, known: Places) -> Outfit:
    """The weights of the `module`-th module, changed by `loras` at the strengths given.

    It is made from the weights that the module has now, in float32, and rounded once.
    Raises CheckpointUnavailable for a file that can't be read or is for other weights.
    """
    changes: dict[nn.Parameter, list[_Change]] = defaultdict(list)
    with ExitStack() as files:
        for lora, strength in loras:
            with _explained(lora):
                file = files.enter_context(safe_open(lora.path, framework="pt"))
                for parameter, change in _changes(file, module, known):
                    changes[parameter].append(_Change(lora, strength, change))
        return Outfit([(parameter, _sum(parameter, several)) for parameter, several in changes.items()])


class _Change(NamedTuple):
    lora: Lora
    strength: float
    tensor: Callable[[], torch.Tensor]


def _sum(parameter: nn.Parameter, changes: Sequence[_Change]) -> torch.Tensor:
    """One weight at a time: all of them in float32 would need more memory than the checkpoint."""
    total = parameter.detach().float()
    for each in changes:
        with _explained(each.lora):
            change = each.strength * each.tensor()
            if not torch.isfinite(change.to(parameter.dtype)).all():
                raise ValueError("its numbers are none (NaN), or too large for this precision")
            total = total + change
    return torch.empty_like(parameter.detach()).copy_(total)


def _changes(file: Any, module: int, known: Places) -> Iterator[tuple[nn.Parameter, Callable[[], torch.Tensor]]]:
    """Which of the module's parameters change, and what is added to them at full strength (float32).

    Raises ValueError for a file for other weights.
    """
    told = json.loads((file.metadata() or {}).get("lora_adapter_metadata") or "{}")
    named = _named(file.keys())
    _check(named, file, known)
    for name, keys in named.items():
        place = known.by_name.get(name)
        if place is None or place.module != module:
            continue
        if place.bias is not None and "bias" in keys:
            yield place.bias, partial(_difference, file, keys["bias"], place.bias)
        if keys.keys() - {"bias", "alpha"}:
            yield place.weight, partial(_low_rank, file, keys, place.weight, _alpha(told, name))


def _difference(file: Any, key: str, parameter: nn.Parameter) -> torch.Tensor:
    return _read(file, key, parameter).reshape(parameter.shape)


def _low_rank(file: Any, keys: Mapping[str, str], parameter: nn.Parameter, alpha: float | None) -> torch.Tensor:
    tensors = {part: _read(file, key, parameter) for part, key in keys.items()}
    return changed(parameter.detach().float(), tensors, alpha)


def _read(file: Any, key: str, like: nn.Parameter) -> torch.Tensor:
    tensor: torch.Tensor = file.get_tensor(key)
    return tensor.to(like.device).float()


def _named(keys: Iterable[str]) -> dict[str, dict[str, str]]:
    """{name of a layer: {part of its change: key in the file}}. Other keys are no part of a LoRA."""
    named: dict[str, dict[str, str]] = defaultdict(dict)
    for key in keys:
        if found := _OLD_KEY.fullmatch(key):
            layer = f"{found[1]}.{found[2]}" + (".0" if found[2] == "to_out" else "")
            named[layer][found[3]] = key
        elif found := _KEY.fullmatch(key):
            named[found[1]][_PARTS[found[2]]] = key
    return named


def _check(named: Mapping[str, Mapping[str, str]], file: Any, known: Places) -> None:
    """Raises ValueError where the file is none, or for another family: its cross-attention reads another width."""
    if not named:
        raise ValueError("its file holds no LoRA")
    for name, keys in named.items():
        if _CROSS_ATTENTION.search(name) and "down" in keys:
            width = file.get_slice(keys["down"]).get_shape()[1]
            if width != known.width:
                raise ValueError(f"it is for {_family(width)}, and this checkpoint is of {_family(known.width)}")
    if not any(name in known.by_name for name in named):
        raise ValueError(f"it is for other weights than this checkpoint's ({min(named)})")


def _family(width: int) -> str:
    return f"{_FAMILIES.get(width, 'another family')} (width {width})"


def _alpha(told: Mapping[str, Any], name: str) -> float | None:
    """What a file of diffusers' says in its header for one of its layers; kohya's files say it layer by layer."""
    module, _, layer = name.partition(".")
    for pattern, alpha in (told.get(f"{module}.alpha_pattern") or {}).items():
        if layer.endswith(pattern):
            return float(alpha)
    alpha = told.get(f"{module}.lora_alpha")
    return None if alpha is None else float(alpha)


def _layers(module: nn.Module) -> Iterator[tuple[str, Any]]:
    return ((name, layer) for name, layer in module.named_modules() if isinstance(layer, _WITH_WEIGHTS))


def _text_names(name: str, place: int) -> Iterator[str]:
    """What files call a layer of the text encoder at `place` (1 or 2)."""
    dotted = "text_encoder" if place == 1 else f"text_encoder_{place}"
    bare = name.removeprefix("text_model.")
    full = bare if bare == "text_projection" else f"text_model.{bare}"
    yield from (f"{dotted}.{bare}", f"{dotted}.{full}", _kohya(f"te{place}", full))
    yield _OLD_PROJECTION.sub(lambda found: _OLD_PROJECTIONS[found[0]], f"{dotted}.{full}")
    if place == 1:
        yield from (full, _kohya("te", full))


def _kohya(module: str, name: str) -> str:
    return f"lora_{module}_{name.replace('.', '_')}"


@contextmanager
def _explained(lora: Lora) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = "its file can't be read. Download it again, or leave it out"
        raise _refused(lora, reason) from error
    except ValueError as error:
        raise _refused(lora, str(error)) from error
    except (RuntimeError, KeyError, IndexError, TypeError, AttributeError) as error:
        if is_out_of_memory(error):
            raise
        raise _refused(lora, f"its tensors do not go together ({error})") from error


def _refused(lora: Lora, why: str) -> CheckpointUnavailable:
    return CheckpointUnavailable(f"The LoRA {lora.name} can't be used: {why}.", params="loras")
