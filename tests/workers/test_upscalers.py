"""Networks of all the names that files give them, in tiles, to any size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from app.errors import CheckpointUnavailable, NodeFailed
from workers.diffusion.pictures import upscalers
from workers.diffusion.pictures.upscalers import Compact, RRDBNet, Upscaler, load_upscaler

CPU = torch.device("cpu")
NOISE = np.random.default_rng(0).integers(0, 256, (20, 28, 3), np.uint8)


def network(doublings: int = 2, folded: int = 1, blocks: int = 2) -> RRDBNet:
    torch.manual_seed(0)
    return RRDBNet(features=8, growth=4, blocks=blocks, doublings=doublings, folded=folded)


def middle_names(weights):
    """As ESRGAN called them after its first year."""
    names = {"conv_body": "trunk_conv", "body.": "RRDB_trunk.", "rdb": "RDB", "conv_hr": "HRconv"}
    names |= {f"conv_up.{i}": f"upconv{i + 1}" for i in range(3)}
    return {_replaced(name, names): weight for name, weight in weights.items()}


def newest_names(weights):
    return {_replaced(name, {f"conv_up.{i}": f"conv_up{i + 1}" for i in range(3)}): w for name, w in weights.items()}


def oldest_names(weights, blocks=2):
    """As in ESRGAN's first files, which number their layers through; each doubling is three of them."""
    doublings = sum(name.startswith("conv_up") for name in weights) // 2
    last = 3 * doublings + 2
    names = {"conv_first": "model.0", "conv_body": f"model.1.sub.{blocks}", "body.": "model.1.sub.", "rdb": "RDB"}
    names |= {f"conv_up.{i}": f"model.{3 * i + 3}" for i in range(doublings)}
    names |= {"conv_hr": f"model.{last}", "conv_last": f"model.{last + 2}"}
    inner = {f"conv{i}.": f"conv{i}.0." for i in range(1, 6)}
    return {_replaced(name, names | (inner if "rdb" in name else {})): w for name, w in weights.items()}


def _replaced(name, names):
    for ours, theirs in names.items():
        name = name.replace(ours, theirs)
    return name


@pytest.mark.parametrize("doublings", [0, 1, 2, 3])
@pytest.mark.parametrize("named", [dict, newest_names, middle_names, oldest_names])
def test_every_naming_is_the_same_network(named, doublings, tmp_path):
    theirs = network(doublings)
    torch.save({"params_ema": named(theirs.state_dict())}, tmp_path / "net.pth")
    ours = load_upscaler(str(tmp_path / "net.pth"), CPU)
    assert ours.scale == 2**doublings
    assert np.array_equal(ours.enlarge(NOISE), Upscaler(theirs, CPU).enlarge(NOISE))


def test_weights_in_half_precision_and_without_pickles(tmp_path):
    save_file({name: weight.half() for name, weight in network().state_dict().items()}, tmp_path / "net.safetensors")
    assert load_upscaler(str(tmp_path / "net.safetensors"), CPU).enlarge(NOISE).shape == (80, 112, 3)
    wrapped = {f"params_ema.{name}": weight for name, weight in network().state_dict().items()}
    save_file(wrapped, tmp_path / "wrapped.safetensors")
    assert load_upscaler(str(tmp_path / "wrapped.safetensors"), CPU).scale == 4


@pytest.mark.parametrize(("doublings", "folded", "scale"), [(2, 2, 2), (2, 4, 1)])
def test_networks_that_fold_their_picture_take_odd_sizes(doublings, folded, scale, tmp_path):
    torch.save(newest_names(network(doublings, folded).state_dict()), tmp_path / "net.pth")
    upscaler = load_upscaler(str(tmp_path / "net.pth"), CPU)
    assert upscaler.scale == scale
    assert upscaler.enlarge(NOISE[:19, :27]).shape == (19 * scale, 27 * scale, 3)


def test_the_small_networks_are_read_too(tmp_path):
    torch.manual_seed(0)
    torch.save({"params": Compact(8, convolutions=3, scale=4).state_dict()}, tmp_path / "net.pth")
    upscaler = load_upscaler(str(tmp_path / "net.pth"), CPU)
    assert upscaler.enlarge(NOISE).shape == (80, 112, 3)


def test_nobody_sees_the_tiles(monkeypatch):
    upscaler = Upscaler(network(blocks=1), CPU)
    picture = np.random.default_rng(1).integers(0, 256, (70, 90, 3), np.uint8)
    whole = upscaler.enlarge(picture)
    monkeypatch.setattr(upscalers, "SMALLER_TILES", (32,))
    tiles = []
    assert np.abs(upscaler.enlarge(picture, lambda: tiles.append(1)).astype(int) - whole).max() <= 1
    assert len(tiles) == 9


def test_where_memory_runs_out_the_tiles_become_smaller():
    upscaler, sides = Upscaler(network(blocks=1), CPU), []
    picture = np.random.default_rng(1).integers(0, 256, (70, 160, 3), np.uint8)
    whole = upscaler.enlarge(picture)

    def short_of_memory(module, given):
        sides.append(given[0].shape[-1])
        if sides[-1] > 120:
            raise torch.OutOfMemoryError("CUDA out of memory")

    upscaler.network.register_forward_pre_hook(short_of_memory)
    assert np.abs(upscaler.enlarge(picture).astype(int) - whole).max() <= 1
    assert sides[:2] == [160, 152]
    assert max(sides[2:]) == 112


def test_a_network_that_overflows_in_half_precision_works_in_full_and_a_broken_one_is_told():
    def overflow(module, given, answer):
        return answer * (float("inf") if answer.dtype == torch.bfloat16 else 1)

    broken, theirs = network(), network()
    theirs.register_forward_hook(overflow)
    expected = Upscaler(network(), CPU).enlarge(NOISE)
    near = Upscaler(theirs, CPU, torch.bfloat16).enlarge(NOISE).astype(int)
    assert np.abs(near - expected).max() < 10
    broken.conv_last.weight.data[:] = float("nan")
    with pytest.raises(NodeFailed, match="weights are damaged"):
        Upscaler(broken, CPU).enlarge(NOISE)


@pytest.mark.parametrize("size", [(112, 80), (50, 40), (30, 21), (300, 210), (28, 20)])
def test_any_size_is_reached(size):
    assert Upscaler(network(), CPU).enlarge_to(NOISE, size).shape == (size[1], size[0], 3)


class _Payload:
    def __reduce__(self):
        return (open, ("/tmp/never", "w"))


@pytest.mark.parametrize(
    ("doublings", "channels", "says"), [(1, 48, "2 times smaller"), (2, 1, "reads 1 channels a pixel")]
)
def test_a_network_for_something_else_is_named(doublings, channels, says, tmp_path):
    weights = network(doublings).state_dict() | {"conv_first.weight": torch.zeros(8, channels, 3, 3)}
    save_file(weights, tmp_path / "net.safetensors")
    with pytest.raises(CheckpointUnavailable, match=says):
        load_upscaler(str(tmp_path / "net.safetensors"), CPU)


@pytest.mark.parametrize("content", [b"<html>", b"", {"conv_first.weight": torch.zeros(8, 3, 3, 3)}, _Payload(), [1]])
def test_what_is_no_upscaler_is_refused_and_nothing_is_executed(content, tmp_path):
    path = tmp_path / "net.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(CheckpointUnavailable, match=r"upscaler net\.pth could not be loaded"):
        load_upscaler(str(path), CPU)
