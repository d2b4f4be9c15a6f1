"""ControlNets of every form, and rows that follow none beside those that do."""

from __future__ import annotations

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint
from safetensors.torch import save_file

from app.errors import CheckpointUnavailable
from workers.diffusion.checkpoint import names
from workers.diffusion.drawing.controls import ControlNets, Steer, load_control, residuals

ROWS = 3


@pytest.fixture(scope="module")
def unet(tiny) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(tiny.folder, subfolder="unet", local_files_only=True).eval()


def new_net(unet, seed=0, hint=(4, 8, 12)) -> ControlNetModel:
    """A random one: a fresh net ends in zeros, and would change nothing."""
    torch.manual_seed(seed)
    net = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=hint).eval()
    for module in (net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out):
        for weight in module.parameters():
            torch.nn.init.normal_(weight, std=0.1)
    return net.requires_grad_(False)


def called(unet) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "inputs": torch.randn(ROWS, 4, 16, 16, generator=generator),
        "timesteps": torch.tensor([900.0, 500.0, 20.0]),
        "embeddings": torch.randn(ROWS, 77, unet.config.cross_attention_dim, generator=generator),
    }


def steer(net, **changes) -> Steer:
    return Steer(net, torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)), **changes)


@torch.no_grad()
def answer(unet, given, **more) -> torch.Tensor:
    return unet(given["inputs"], given["timesteps"], given["embeddings"], return_dict=False, **more)[0]


def test_rows_that_follow_no_net_are_what_they_were(unet):
    given = called(unet)
    plain = answer(unet, given)
    steered = answer(unet, given, **residuals([(), (steer(new_net(unet)),), ()], **given))
    assert torch.equal(steered[[0, 2]], plain[[0, 2]])
    assert (steered[1] - plain[1]).abs().max() > 1e-3


@torch.no_grad()
def test_nets_are_added_each_with_its_weight(unet):
    first, second = new_net(unet, 1), new_net(unet, 2)
    given = called(unet)
    steers = [(steer(first, weight=0.5),), (steer(first), steer(second, weight=2.0)), ()]
    ours = residuals(steers, **given)
    row = {name: value[1:2] for name, value in given.items()}
    hint = steer(first).hint
    parts = [
        net(row["inputs"], row["timesteps"], row["embeddings"], hint, w) for net, w in ((first, 1.0), (second, 2.0))
    ]
    whole = sum(part.mid_block_res_sample for part in parts)
    assert torch.allclose(ours["mid_block_additional_residual"][1:2], whole, atol=1e-5)
    assert ours["mid_block_additional_residual"][2].abs().max() == 0
    assert len(ours["down_block_additional_residuals"]) == len(parts[0].down_block_res_samples)


def test_without_a_net_nothing_is_added(unet):
    assert residuals([(), (), ()], **called(unet)) == {}


@pytest.mark.parametrize(
    ("window", "calls"), [((0, 1), [0, 1, 2, 3]), ((0.5, 1), [2, 3]), ((0, 0.5), [0, 1]), ((0.25, 0.75), [1, 2])]
)
def test_a_net_acts_between_its_start_and_its_end(window, calls):
    one = steer(None, start=window[0], end=window[1])
    assert [call for call in range(4) if one.acts(call, 4)] == calls
    assert not steer(None, weight=0).acts(0, 4)


def original_names(net, unet) -> dict[str, torch.Tensor]:
    """As the authors' files have it."""
    rename, last = names.unet_names(unet.config), 14
    named = {}
    for name, weight in net.state_dict().items():
        head, _, rest = name.partition(".")
        number, _, end = rest.partition(".")
        if head == "controlnet_down_blocks":
            name = f"{names.UNET}zero_convs.{number}.0.{end}"
        elif head == "controlnet_mid_block":
            name = f"{names.UNET}middle_block_out.0.{rest}"
        elif head == "controlnet_cond_embedding":
            place = {"conv_in": 0, "conv_out": last}.get(number)
            block, _, kind = end.partition(".")
            place, kind = (2 * int(block) + 2, kind) if place is None else (place, end)
            name = f"{names.UNET}input_hint_block.{place}.{kind}"
        else:
            name = rename(name)
        named["control_model." + name.removeprefix(names.UNET)] = weight.contiguous()
    return named


def test_files_of_all_forms_are_the_same_net(unet, tmp_path):
    net = new_net(unet)
    net.save_pretrained(tmp_path / "folder")
    save_file({name: weight.contiguous() for name, weight in net.state_dict().items()}, tmp_path / "plain.safetensors")
    theirs = original_names(net, unet)
    read = convert_controlnet_checkpoint(dict(theirs), net.config)
    assert all(torch.equal(weight, read[name]) for name, weight in net.state_dict().items()), "as diffusers reads them"
    save_file(theirs, tmp_path / "original.safetensors")
    torch.save({name.removeprefix("control_model."): weight for name, weight in theirs.items()}, tmp_path / "net.pth")
    for name in ("folder", "plain.safetensors", "original.safetensors", "net.pth"):
        loaded = load_control(str(tmp_path / name), unet).state_dict()
        assert all(torch.equal(weight, loaded[key]) for key, weight in net.state_dict().items()), name


def test_nets_are_kept_until_others_are_used_or_memory_is_short(unet, tmp_path):
    paths = [tmp_path / str(i) for i in range(4)]
    for path in paths:
        new_net(unet).save_pretrained(path)
    nets = ControlNets(unet)
    first = nets.net(str(paths[0]))
    size = nets.bytes
    assert nets.net(str(paths[0])) is first
    for path in paths[1:]:
        nets.net(str(path))
    assert nets.bytes == 3 * size > 0
    assert nets.net(str(paths[0])) is not first
    nets.forget()
    assert nets.bytes == 0


def test_a_file_of_something_else_is_named(unet, tiny, tmp_path):
    (tmp_path / "page.safetensors").write_bytes(b"<html>")
    wide = UNet2DConditionModel.from_config({**unet.config, "cross_attention_dim": 96})
    new_net(wide).save_pretrained(tmp_path / "wide")
    save_file(new_net(wide).state_dict(), tmp_path / "wide.safetensors")
    for path in (tmp_path / "page.safetensors", tmp_path / "wide", tmp_path / "wide.safetensors", tiny.file):
        with pytest.raises(CheckpointUnavailable, match=f"ControlNet {path.name} could not be loaded"):
            load_control(str(path), unet)
