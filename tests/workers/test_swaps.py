"""A checkpoint takes the place of another of its kind: its modules, and the very memory that its weights lay in."""

from __future__ import annotations

import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextModel

from workers.diffusion.checkpoint.files_ahead import expected_bytes
from workers.diffusion.checkpoint.shells import shell
from workers.diffusion.checkpoint.tokenizer import CONFIGS
from workers.diffusion.engine import Engine
from workers.diffusion.loop import patience
from workers.diffusion.request import Limits, Weights

KINDS = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}


@pytest.fixture(scope="module")
def kin(tiny, tmp_path_factory):
    """`kin[name]`: three of one family. `again` has the autoencoder and the text encoder of `first`."""
    folder = tmp_path_factory.mktemp("kin")
    weights = load_file(tiny.file)
    changed = {
        "first": weights,
        "other": {name: weight * 1.01 for name, weight in weights.items()},
        "again": {name: weight * (1.02 if name.startswith("model.") else 1) for name, weight in weights.items()},
    }
    for name, each in changed.items():
        save_file(each, folder / f"{name}.safetensors")
    return {name: folder / f"{name}.safetensors" for name in changed}


@pytest.fixture
def narrow(ask):
    """An engine with room for so many checkpoints."""
    engines = []

    def open_with(room: float) -> Engine:
        budget = int(room * expected_bytes(ask().weights, 4))
        engines.append(Engine(device="cpu", limits=Limits(budget_bytes=budget)))
        return engines[-1]

    yield open_with
    for engine in engines:
        engine.close()


def parts_of(engine: Engine, path: Path):
    return engine.residency.pipeline(Weights(path.stem, str(path), "shapes")).components


def addresses(module: nn.Module) -> list[int]:
    return [weight.data_ptr() for weight in module.parameters()]


def test_one_in_the_place_of_another_has_its_memory_and_paints_its_own_pictures(engine, ask, kin, narrow):
    swapping, places = narrow(1), []
    for name in ("first", "other", "first"):
        request = ask(path=kin[name], steps=2)
        assert swapping.paint(request).images == engine.paint(request).images
        parts = parts_of(swapping, kin[name])
        places.append([addresses(each) for each in (parts.unet, parts.vae, *parts.text_encoders)])
    assert places[0] == places[1] == places[2]


def test_what_others_share_is_not_written_over(engine, ask, kin, narrow):
    swapping = narrow(2.05)
    for name in ("first", "again", "other"):  # two fit, as far as they share; the first one makes way
        swapping.paint(ask(path=kin[name], steps=1))
    assert [each.name for each in swapping.residents] == ["again", "other"]
    for name in ("again", "other", "first"):
        request = ask(path=kin[name], steps=2)
        assert swapping.paint(request).images == engine.paint(request).images


def test_of_many_that_wait_outside_each_stays_for_its_time_when_it_comes_in(ask, kin, narrow, monkeypatch):
    """A clock that goes on with each UNet call: whoever comes in has five of them, though others have waited longer."""
    swapping, calls = narrow(1), []
    monkeypatch.setattr(patience, "time", SimpleNamespace(monotonic=lambda: len(calls)))
    monkeypatch.setattr(patience, "_LEAST_S", 5)
    monkeypatch.setattr(patience, "_TIMES", 0)

    def count(module, given) -> None:
        if isinstance(module, UNet2DConditionModel) and threading.current_thread().name == "engine":
            calls.append(swapping.residents[0].name)

    hook = torch.nn.modules.module.register_module_forward_pre_hook(count)
    try:
        with ThreadPoolExecutor(3) as threads:
            assert all(threads.map(swapping.paint, (ask(path=file, steps=12) for file in kin.values())))
    finally:
        hook.remove()
    stays = [(name, len(list(stay))) for name, stay in itertools.groupby(calls)]
    last = {name: i for i, (name, _) in enumerate(stays)}
    assert len(stays) > 3, "they have taken turns"
    assert all(length >= 5 for i, (name, length) in enumerate(stays) if i != last[name]), stays


def test_a_file_that_breaks_off_leaves_nothing_behind(engine, ask, kin, narrow, tmp_path):
    swapping = narrow(1)
    before = swapping.paint(ask(path=kin["first"], steps=2)).images
    broken = tmp_path / "broken.safetensors"
    weights = load_file(kin["other"])
    weights["model.diffusion_model.out.2.weight"] = torch.zeros(4, 3, 3, 3)
    save_file(weights, broken)
    with pytest.raises(Exception, match=r"broken\.safetensors could not be loaded"):
        swapping.paint(ask(path=broken, steps=2))
    assert swapping.paint(ask(path=kin["first"], steps=2)).images == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["shapes", "sd1"])
def test_copies_of_a_module_have_no_part_in_common(kind, family):
    config = json.loads((CONFIGS / family / kind / "config.json").read_text())
    one, other = (shell(KINDS[kind], config).copy() for _ in range(2))
    built = shell(KINDS[kind], config)._empty
    assert [name for name, _ in one.named_modules()] == [name for name, _ in built.named_modules()]
    assert one.state_dict().keys() == built.state_dict().keys()
    ours = {id(part): part for part in one.modules()}
    assert not ours.keys() & {id(each) for each in (*other.modules(), *built.modules())}
    for part in one.modules():
        for name, value in part.__dict__.items():
            known = getattr(value, "__self__", value)
            assert not isinstance(known, nn.Module) or id(known) in ours, name
    buffers = [{buffer.data_ptr() for buffer in each.buffers()} for each in (one, other)]
    assert not buffers[0] & buffers[1]
