"""ControlNets: a picture that the painted one follows, in the batch that all others share.

A net answers with residuals that are added inside the UNet. Rows that follow no net get zeros, which changes nothing,
to the last bit; so drawings with and without a net, and with different ones, go through one UNet call.
"""

from __future__ import annotations

import inspect
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel

from app.errors import CheckpointUnavailable
from workers.diffusion.checkpoint import names
from workers.diffusion.checkpoint.tensors import UNREADABLE, read_tensors, reason
from workers.diffusion.memory import is_out_of_memory

HINT = "controlnet_cond_embedding."
_MOST_NETS = 3  # in memory; one for Stable Diffusion 1 has 0.7 GB in half precision


@dataclass(frozen=True, slots=True, eq=False)
class Steer:
    """One net with the picture that it follows: `hint` of (1, 3, height, width) from 0 to 1, in pixels."""

    net: ControlNetModel
    hint: torch.Tensor
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0

    def acts(self, call: int, calls: int) -> bool:
        """Whether it has a say in the drawing's UNet call number `call` (from 0) of `calls`."""
        return self.weight != 0 and call / calls >= self.start and (call + 1) / calls <= self.end


def residuals(
    steers: Sequence[Sequence[Steer]],
    inputs: torch.Tensor,
    timesteps: torch.Tensor,
    embeddings: torch.Tensor,
    added: Mapping[str, torch.Tensor] | None = None,
) -> dict[str, Any]:
    """What the UNet is to be called with besides, for rows of which row i follows `steers[i]`; empty where none does.

    The others are what the UNet gets: a row each. One call for each net, with the rows that follow it.
    """
    down: list[torch.Tensor] = []
    middle: torch.Tensor | None = None
    for net in dict.fromkeys(steer.net for row in steers for steer in row):
        chosen = [(i, steer) for i, row in enumerate(steers) for steer in row if steer.net is net]
        rows = torch.tensor([i for i, _ in chosen], device=inputs.device)
        own_down, own_middle = net(
            inputs[rows, : net.config.in_channels],
            timesteps[rows],
            embeddings[rows],
            torch.cat([steer.hint for _, steer in chosen]),
            added_cond_kwargs={name: each[rows] for name, each in added.items()} if added else None,
            return_dict=False,
        )
        weights = torch.tensor([steer.weight for _, steer in chosen], device=inputs.device, dtype=inputs.dtype)
        weights = weights[:, None, None, None]
        if middle is None:
            down = [each.new_zeros(len(steers), *each.shape[1:]) for each in own_down]
            middle = own_middle.new_zeros(len(steers), *own_middle.shape[1:])
        for whole, own in zip([*down, middle], [*own_down, own_middle], strict=True):
            whole.index_add_(0, rows, own * weights)
    if middle is None:
        return {}
    return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}


def load_control(path: str, unet: UNet2DConditionModel) -> ControlNetModel:
    """The net of a diffusers folder or of a single file, on the device and in the precision of its `unet`.

    A file says nothing of its sizes but by its weights: it is read as a net of this UNet's family, and raises
    CheckpointUnavailable if it is none.
    """
    try:
        if Path(path).is_dir():
            net = ControlNetModel.from_pretrained(path, dtype=unet.dtype, local_files_only=True, use_safetensors=True)
            _check_width(net, unet)
        else:
            net = _from_file(path, unet)
    except UNREADABLE as error:
        if is_out_of_memory(error):
            raise
        raise CheckpointUnavailable(
            f"The ControlNet {Path(path).name} could not be loaded ({reason(error)}). "
            "It must be one for the checkpoint's family.",
            params="control_net",
        ) from error
    return net.to(unet.device).eval().requires_grad_(False)


class ControlNets:
    """The last few nets that were used with one UNet. For the engine's thread alone."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self._unet = unet
        self._held: OrderedDict[tuple[str, int, int], ControlNetModel] = OrderedDict()

    def net(self, path: str) -> ControlNetModel:
        """The net of `path`, loaded unless it is here and its file is as it was. Raises CheckpointUnavailable."""
        key = (path, *_stamp(path))
        net = self._held.pop(key, None)
        if net is None:
            self.forget(_MOST_NETS - 1)
            net = load_control(path, self._unet)
        self._held[key] = net
        return net

    @property
    def bytes(self) -> int:
        return sum(weight.nbytes for net in self._held.values() for weight in net.state_dict().values())

    def forget(self, remaining: int = 0) -> None:
        """All but so many, those first that were not used for longest. Drawings keep what they follow to their end."""
        while len(self._held) > remaining:
            self._held.popitem(last=False)


def _stamp(path: str) -> tuple[int, int]:
    """Changes with the file's content."""
    place = Path(path) / "config.json" if Path(path).is_dir() else Path(path)
    try:
        stat = place.stat()
    except OSError as error:
        raise CheckpointUnavailable(
            f"The ControlNet {Path(path).name} is not there any more: {error}.", params="control_net"
        ) from error
    return stat.st_mtime_ns, stat.st_size


def _check_width(net: ControlNetModel, unet: UNet2DConditionModel) -> None:
    ours, theirs = unet.config.cross_attention_dim, net.config.cross_attention_dim
    if ours != theirs:
        raise ValueError(f"it reads prompts of {theirs} numbers a token, the checkpoint's have {ours}")


def _from_file(path: str, unet: UNet2DConditionModel) -> ControlNetModel:
    named = {name.removeprefix("control_model."): weight for name, weight in read_tensors(path).items()}
    rename = _original_name(unet.config) if "input_hint_block.0.weight" in named else _same_name
    if rename(f"{HINT}conv_in.weight") not in named:
        raise ValueError("it is no ControlNet")
    with torch.device("meta"):
        net = ControlNetModel(**_config(unet, named, rename))
    weights = {
        name: named[rename(name)].to(unet.dtype).reshape(empty.shape) for name, empty in net.state_dict().items()
    }
    net.load_state_dict(weights, assign=True)
    return net


def _config(unet: UNet2DConditionModel, named: Mapping[str, torch.Tensor], rename: names.Rename) -> dict[str, Any]:
    """The UNet's own, as far as a net shares it; what belongs to the net alone is read from its weights."""
    shared = inspect.signature(ControlNetModel.__init__).parameters
    config = {name: value for name, value in unet.config.items() if name in shared}
    channels, i = [len(named[rename(f"{HINT}conv_in.weight")])], 1
    while (weight := named.get(rename(f"{HINT}blocks.{i}.weight"))) is not None:
        channels.append(len(weight))
        i += 2
    config["conditioning_embedding_out_channels"] = tuple(channels)
    config["in_channels"] = named[rename("conv_in.weight")].shape[1]
    return config


def _same_name(name: str) -> str:
    return name


def _original_name(config: names.Config) -> names.Rename:
    """diffusers' name of a net's weight → the one of ControlNet's authors, who count a picture's layers by twos."""
    unet_name = names.unet_names(config)

    def rename(name: str) -> str:
        if found := re.fullmatch(r"controlnet_down_blocks\.(\d+)\.(.+)", name):
            return f"zero_convs.{found[1]}.0.{found[2]}"
        if name.startswith("controlnet_mid_block."):
            return name.replace("controlnet_mid_block", "middle_block_out.0")
        if found := re.fullmatch(r"controlnet_cond_embedding\.blocks\.(\d+)\.(.+)", name):
            return f"input_hint_block.{2 * int(found[1]) + 2}.{found[2]}"
        name = name.replace(f"{HINT}conv_in", "input_hint_block.0").replace(f"{HINT}conv_out", "input_hint_block.14")
        return name if name.startswith("input_hint_block.") else unet_name(name).removeprefix(names.UNET)

    return rename
