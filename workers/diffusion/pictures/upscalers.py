"""Larger pictures: Lanczos, or a network of an ESRGAN file.

Two kinds of network are read, whatever their weights are called: RRDBNet (ESRGAN, Real-ESRGAN, BSRGAN and what was
trained from them; factors 1, 2, 4, 8) and SRVGGNetCompact (the small ones of Real-ESRGAN). The sizes of a network are
read from its weights. Large pictures go through in tiles that overlap, so that memory does not grow with the picture.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn
from torch.nn.functional import interpolate, leaky_relu, pixel_shuffle, pixel_unshuffle

from app.errors import CheckpointUnavailable, NodeFailed
from workers.diffusion.checkpoint.tensors import UNREADABLE, read_tensors, reason
from workers.diffusion.memory import as_told, give_back_memory, is_out_of_memory
from workers.diffusion.pictures.images import Pixels, Size, from_unit, resized, to_unit

SMALLER_TILES, LEAST_TILE = (256, 128), 64  # pixels of the small picture, a side: one after the other
LANCZOS = "lanczos"
OVERLAP = 24  # pixels of its surroundings that a tile sees on each side, and that are thrown away

_MOST_NETWORKS = 2  # in memory, 70 MB each

Weights = Mapping[str, torch.Tensor]
Network = TypeVar("Network", bound=nn.Module)


class Upscaler:
    """One network on one device. Any number of threads may use it at once: it holds no state."""

    def __init__(self, network: RRDBNet | Compact, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.network = network.to(device, dtype).eval().requires_grad_(False)
        self.scale = network.scale
        self._device, self._dtype = device, dtype

    def enlarge(self, pixels: Pixels, between: Callable[[], None] = lambda: None) -> Pixels:
        """(height, width, 3) → (height * scale, width * scale, 3). `between` is called before each tile.

        Where memory runs out the tiles become smaller; where half precision does not reach, it is done again in full.
        Raises NodeFailed for weights that give no numbers, and what torch raises when even small tiles don't fit.
        """
        try:
            return self._enlarge(pixels, between)
        except FloatingPointError as error:
            if self._dtype == torch.float32:
                raise NodeFailed("The upscaler gave no numbers (NaN): its weights are damaged.") from error
        return Upscaler(deepcopy(self.network), self._device).enlarge(pixels, between)

    def _enlarge(self, pixels: Pixels, between: Callable[[], None]) -> Pixels:
        for tile in SMALLER_TILES:
            try:
                return self._in_tiles(tile, pixels, between)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            give_back_memory()  # the error is gone by now, and the tensors that its frames held
        return self._in_tiles(LEAST_TILE, pixels, between)

    @torch.inference_mode()
    def _in_tiles(self, side: int, pixels: Pixels, between: Callable[[], None]) -> Pixels:
        """Raises FloatingPointError for what is no number."""
        small = to_unit(pixels).to(self._device, self._dtype)
        height, width = pixels.shape[:2]
        large = torch.empty(1, 3, height * self.scale, width * self.scale)
        for top, left in itertools.product(range(0, height, side), range(0, width, side)):
            between()
            bottom, right = min(top + side, height), min(left + side, width)
            above, before = min(OVERLAP, top), min(OVERLAP, left)
            tile = self.network(small[:, :, top - above : bottom + OVERLAP, left - before : right + OVERLAP])
            y, x, scale = above * self.scale, before * self.scale, self.scale
            large[:, :, top * scale : bottom * scale, left * scale : right * scale] = tile[
                :, :, y : y + (bottom - top) * scale, x : x + (right - left) * scale
            ]
        if not torch.isfinite(large).all():
            raise FloatingPointError
        return from_unit(large)

    def enlarge_to(self, pixels: Pixels, size: Size, between: Callable[[], None] = lambda: None) -> Pixels:
        """To exactly `size`: through the network as often as that needs, at most twice, and then Lanczos."""
        for _ in range(1 if self.scale == 1 else 2):
            if self.scale == 1 or pixels.shape[1] < size[0] or pixels.shape[0] < size[1]:
                pixels = self.enlarge(pixels, between)
        return resized(pixels, size)


def load_upscaler(path: str, device: torch.device) -> Upscaler:
    """The network of a `.pth` or `.safetensors` file. Raises CheckpointUnavailable; nothing in the file is executed."""
    try:
        weights = read_tensors(path)
        network = Compact.of(weights) if "body.0.weight" in weights else RRDBNet.of(weights)
    except UNREADABLE as error:
        if is_out_of_memory(error):
            raise
        raise CheckpointUnavailable(
            f"The upscaler {Path(path).name} could not be loaded ({reason(error)}). It must be an ESRGAN file.",
            params="upscaler",
        ) from error
    return Upscaler(network, device, torch.float16 if device.type == "cuda" else torch.float32)


class Upscalers:
    """Enlarges by the name of an upscaler, and keeps the last networks that were used. For any number of threads."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[str, int], Upscaler] = OrderedDict()

    def enlarge(self, pixels: Pixels, upscaler: str, size: Size, between: Callable[[], None] = lambda: None) -> Pixels:
        """`pixels` in exactly `size` by "lanczos", or by the network of a file.

        Raises CheckpointUnavailable, OutOfMemory, and whatever `between` raises.
        """
        if upscaler == LANCZOS:
            return resized(pixels, size)
        try:
            return self._network(upscaler).enlarge_to(pixels, size, between)
        except (RuntimeError, MemoryError) as error:
            raise as_told(error) from None

    def _network(self, path: str) -> Upscaler:
        try:
            key = path, Path(path).stat().st_mtime_ns
        except OSError as error:
            raise CheckpointUnavailable(
                f"The upscaler {Path(path).name} is not there any more: {error}.", params="upscaler"
            ) from error
        with self._lock:
            network = self._held.pop(key, None) or load_upscaler(path, self._device)
            self._held[key] = network
            if len(self._held) > _MOST_NETWORKS:
                self._held.popitem(last=False)
            return network


class RRDBNet(nn.Module):
    """Residual blocks of dense blocks, then doublings. Where `folded`, it first puts 2 x 2 or 4 x 4 pixels into one."""

    def __init__(self, features: int, growth: int, blocks: int, doublings: int, folded: int = 1) -> None:
        super().__init__()
        self.folded, self.scale = folded, 2**doublings // folded
        self.conv_first = _conv(3 * folded**2, features)
        self.body = nn.Sequential(*(_Residual(features, growth) for _ in range(blocks)))
        self.conv_body = _conv(features, features)
        self.conv_up = nn.ModuleList(_conv(features, features) for _ in range(doublings))
        self.conv_hr = _conv(features, features)
        self.conv_last = _conv(features, 3)

    @classmethod
    def of(cls, weights: Weights) -> RRDBNet:
        """The network that fits `weights`, with them. Raises ValueError, KeyError, RuntimeError for others."""
        named = {_new_name(name, weights): weight for name, weight in weights.items()}
        if "conv_first.weight" not in named:
            raise ValueError("it has no weights of such a network")
        features, channels = named["conv_first.weight"].shape[:2]
        numbers = {int(found[1]) for name in named if (found := re.match(r"body\.(\d+)\.rdb1", name))}
        doublings = sum(bool(re.fullmatch(r"conv_up\.\d+\.weight", name)) for name in named)
        growth, folded = len(named["body.0.rdb1.conv1.weight"]), {3: 1, 12: 2, 48: 4}.get(channels)
        if folded is None:
            raise ValueError(f"it reads {channels} channels a pixel, and not three colours")
        if 2**doublings < folded:
            raise ValueError(f"it would make pictures {folded // 2**doublings} times smaller")
        return _filled(lambda: cls(features, growth, len(numbers), doublings, folded), named)

    def forward(self, small: torch.Tensor) -> torch.Tensor:
        """(1, 3, height, width) → (1, 3, height * scale, width * scale), both from 0 to 1."""
        height, width = small.shape[2:]
        small = nn.functional.pad(small, (0, -width % self.folded, 0, -height % self.folded), "replicate")
        first = self.conv_first(pixel_unshuffle(small, self.folded))
        inner = first + self.conv_body(self.body(first))
        for conv in self.conv_up:
            inner = _leaky(conv(interpolate(inner, scale_factor=2, mode="nearest")))
        large: torch.Tensor = self.conv_last(_leaky(self.conv_hr(inner)))
        return large[:, :, : height * self.scale, : width * self.scale]


class Compact(nn.Module):
    """Convolutions in a row, which end in all pixels of the enlarged picture's difference from a plain enlargement."""

    def __init__(self, features: int, convolutions: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        layers: list[nn.Module] = [_conv(3, features), nn.PReLU(features)]
        for _ in range(convolutions):
            layers += [_conv(features, features), nn.PReLU(features)]
        self.body = nn.Sequential(*layers, _conv(features, 3 * scale**2))

    @classmethod
    def of(cls, weights: Weights) -> Compact:
        last = max(int(name.split(".")[1]) for name in weights)
        scale = round((len(weights[f"body.{last}.weight"]) / 3) ** 0.5)
        return _filled(lambda: cls(len(weights["body.0.weight"]), last // 2 - 1, scale), weights)

    def forward(self, small: torch.Tensor) -> torch.Tensor:
        return pixel_shuffle(self.body(small), self.scale) + interpolate(small, scale_factor=self.scale, mode="nearest")


class _Residual(nn.Module):
    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (_Dense(features, growth) for _ in range(3))

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = given + 0.2 * self.rdb3(self.rdb2(self.rdb1(given)))
        return answer


class _Dense(nn.Module):
    """Five convolutions, each of which sees what all before it have made."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4 = (_conv(features + i * growth, growth) for i in range(4))
        self.conv5 = _conv(features + 4 * growth, features)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        seen = given
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen = torch.cat([seen, _leaky(conv(seen))], 1)
        answer: torch.Tensor = given + 0.2 * self.conv5(seen)
        return answer


def _conv(channels: int, features: int) -> nn.Conv2d:
    return nn.Conv2d(channels, features, 3, padding=1)


def _leaky(given: torch.Tensor) -> torch.Tensor:
    return leaky_relu(given, 0.2, inplace=True)


def _filled(empty: Callable[[], Network], weights: Weights) -> Network:
    with torch.device("meta"):
        network = empty()
    network.load_state_dict({name: weight.float() for name, weight in weights.items()}, assign=True)
    return network


# Real-ESRGAN's names are ours, but for conv_up1 and so on. Before it came these:
_RENAMED = (
    (r"trunk_conv\.", r"conv_body."),
    (r"HRconv\.", r"conv_hr."),
    (r"RRDB_trunk\.(\d+)\.RDB(\d)\.", r"body.\1.rdb\2."),
    (r"model\.1\.sub\.(\d+)\.RDB(\d)\.(conv\d)\.0\.", r"body.\1.rdb\2.\3."),
    (r"model\.1\.sub\.\d+\.(?=weight|bias)", r"conv_body."),
    (r"model\.0\.", r"conv_first."),
)


def _new_name(name: str, weights: Weights) -> str:
    if found := re.match(r"(?:conv_up|upconv)(\d)\.", name):
        return f"conv_up.{int(found[1]) - 1}.{name[found.end() :]}"
    for old, new in _RENAMED:
        if found := re.match(old, name):
            return found.expand(new) + name[found.end() :]
    if found := re.match(r"model\.(\d+)\.(weight|bias)", name):
        return f"{_tail(weights)[int(found[1])]}.{found[2]}"
    return name


def _tail(weights: Weights) -> dict[int, str]:
    """What ESRGAN's numbers after its blocks mean: some doublings, then two more convolutions."""
    numbers = sorted(int(found[1]) for name in weights if (found := re.fullmatch(r"model\.(\d+)\.weight", name)))[1:]
    ups = [f"conv_up.{i}" for i in range(len(numbers) - 2)]
    return dict(zip(numbers, [*ups, "conv_hr", "conv_last"], strict=True))
