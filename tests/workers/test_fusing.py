"""One multiplication makes queries, keys and values; LoRAs change them as ever."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from diffusers import UNet2DConditionModel

from workers.diffusion.checkpoint import fusing
from workers.diffusion.checkpoint.fusing import fuse, in_a_row, unfuse
from workers.diffusion.checkpoint.loading import load


@pytest.fixture
def unet(ask) -> UNet2DConditionModel:
    return load(ask().weights, torch.device("cpu"), torch.float32).unet


@pytest.fixture
def answer(unet):
    """What the UNet says to always the same."""
    torch.manual_seed(0)
    texts = torch.randn(2, 77, unet.config.cross_attention_dim)
    given = {"sample": torch.randn(2, 4, 8, 8), "timestep": torch.tensor([7.0, 500.0]), "encoder_hidden_states": texts}
    with torch.inference_mode():
        yield lambda: unet(**given, return_dict=False)[0].clone()


@pytest.fixture
def products(monkeypatch):
    """Shapes of the matrices that were multiplied by."""
    shapes, linear = [], torch.nn.functional.linear

    def counted(numbers, weight, *bias):
        shapes.append(tuple(weight.shape))
        return linear(numbers, weight, *bias)

    monkeypatch.setattr(fusing, "functional", SimpleNamespace(**vars(torch.nn.functional) | {"linear": counted}))
    return shapes


def attentions(unet):
    return [part for part in unet.modules() if isinstance(part, fusing.Attention)]


def test_fused_and_plain_say_the_same(unet, answer, products):
    plain = answer()
    fuse(unet)
    assert torch.allclose(answer(), plain, atol=1e-5)
    assert len(products) == len(attentions(unet))
    unfuse(unet)
    assert torch.equal(answer(), plain)


def test_what_a_lora_changes_is_multiplied_by_itself_while_it_is_worn(unet, answer, products):
    changed = attentions(unet)[0].to_k.weight
    kept, other = changed.data, changed.data * 1.5
    changed.data = other
    plain = answer()
    fuse(unet)
    assert torch.allclose(answer(), plain, atol=1e-5)
    assert len(products) == len(attentions(unet)) - 1
    changed.data = kept
    answer()
    assert len(products) == 2 * len(attentions(unet)) - 1


def test_only_what_lies_in_one_piece_is_in_a_row():
    whole = torch.arange(24.0).reshape(6, 4)
    one, other = whole.split(3)
    assert torch.equal(in_a_row(one, other), whole)
    assert in_a_row(other, one) is None
    assert in_a_row(one, other.clone()) is None
    assert in_a_row(one, whole[3:5]) is None
    assert in_a_row(whole[:, :2], whole[:, 2:]) is None


def test_measuring_leaves_the_unet_as_it_was_and_is_done_once(unet, monkeypatch):
    monkeypatch.setattr(fusing, "_verdicts", {})
    took_s = iter([9, 9, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1])
    monkeypatch.setattr(fusing, "_seconds", lambda work, device: next(took_s))
    assert fusing.fusing_pays(unet, torch.device("cpu"))
    assert fusing.fusing_pays(unet, torch.device("cpu")), "known by now"
    assert not any(isinstance(each.processor, fusing.Fused) for each in attentions(unet))
    monkeypatch.setattr(fusing, "_verdicts", {})
    monkeypatch.setattr(fusing, "_seconds", lambda work, device: 1.0)
    assert not fusing.fusing_pays(unet, torch.device("cpu"))
