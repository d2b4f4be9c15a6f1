"""Several checkpoints within a budget: who leaves, who stays, what they share, and what the system gets back."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from app.errors import CheckpointUnavailable
from workers.diffusion.checkpoint.files_ahead import expected_bytes, read_ahead
from workers.diffusion.checkpoint.residency import Residency
from workers.diffusion.engine import Engine
from workers.diffusion.memory import memory_for_weights
from workers.diffusion.request import Limits, Weights

SIDE = 64
SIZE = 4 * (SIDE + 1) * SIDE * 4  # of each of these: four layers in float32
VAE_MATRIX = SIDE * SIDE * 4


@dataclass
class Parts:
    """As much of a checkpoint's components as a residency looks at."""

    unet: nn.Module
    vae: nn.Module


@pytest.fixture
def models(tmp_path):
    """`models[name]`: each has a file of its own; what is in it does not matter here."""
    made = {}
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).write_bytes(b"weights")
        made[name] = Weights(name, str(tmp_path / name), "shapes")
    return made


class Loaded(SimpleNamespace):
    """Of a pipeline what a residency looks at."""

    held_bytes = 0

    def give_back(self, recordings=False):
        self.held_bytes = 0


def loaded(weights: Weights, leaver=None):
    """Four layers; a and b have the same autoencoder but for its bias."""
    torch.manual_seed(ord(weights.name))
    layers = [nn.Linear(SIDE, SIDE).requires_grad_(False) for _ in range(4)]
    if weights.name in ("a", "b"):
        layers[3].weight.copy_(torch.arange(SIDE * SIDE).reshape(SIDE, SIDE))
    return Loaded(components=Parts(nn.Sequential(*layers[:3]), layers[3]))


def new_residency(load=loaded, expected=SIZE, **limits) -> Residency:
    return Residency(Limits(**{"budget_bytes": 2**40, **limits}), load, lambda weights: expected)


def names(residency) -> set[str]:
    return {each.name for each in residency.residents}


def test_the_one_that_was_not_used_for_longest_makes_room(models):
    residency = new_residency(budget_bytes=int(2.5 * SIZE))
    for name in "aba":
        residency.pipeline(models[name])
    assert residency.bring(models["a"]) == 0, "it is there"
    assert residency.bring(models["c"]) > 0
    assert names(residency) == {"a", "c"}
    assert {each.size for each in residency.residents} == {SIZE}


def test_one_that_turns_out_larger_than_expected_pushes_out_others_too(models):
    residency = new_residency(budget_bytes=int(1.2 * SIZE), expected=0)
    for name in "ac":
        residency.bring(models[name])
        assert names(residency) == {name}


def test_what_can_be_made_again_goes_before_a_checkpoint_does(models):
    residency = new_residency(budget_bytes=int(2.5 * SIZE))
    residency.pipeline(models["a"]).held_bytes = SIZE
    assert residency.size == 2 * SIZE
    residency.bring(models["c"])
    assert (names(residency), residency.size) == ({"a", "c"}, 2 * SIZE)


def test_one_larger_than_the_budget_comes_alone(models):
    residency = new_residency(budget_bytes=SIZE // 2)
    for name in "ac":
        residency.bring(models[name])
        assert names(residency) == {name}


def test_a_pinned_one_stays(models):
    residency = new_residency(budget_bytes=int(2.5 * SIZE), pinned=frozenset("a"), keep_alive_s=0)
    for name in "abcd":
        residency.bring(models[name])
    assert names(residency) == {"a", "d"}
    assert residency.let_go(()) is None
    assert names(residency) == {"a"}


def test_there_is_room_while_nobody_busy_would_have_to_leave(models):
    residency = new_residency(budget_bytes=int(2.5 * SIZE))
    for name in "ab":
        residency.bring(models[name])
    assert residency.fits(models["a"], busy=models.values())
    assert residency.fits(models["c"], busy={models["a"]})
    assert not residency.fits(models["c"], busy={models["a"], models["b"]})


def test_an_unused_one_is_kept_alive_for_its_time(models):
    residency = new_residency(keep_alive_s=60)
    residency.bring(models["a"])
    assert 0 < residency.let_go(()) <= 60
    [held] = residency.residents
    assert held.ends_s == pytest.approx(time.monotonic() + 60, abs=5)


def test_a_busy_one_is_in_use(models):
    residency = new_residency(keep_alive_s=0)
    residency.bring(models["a"])
    assert residency.let_go({models["a"]}) is None
    assert names(residency) == {"a"}
    residency.let_go(())
    assert not names(residency)


def test_each_use_says_how_long_the_checkpoint_stays(models):
    residency = new_residency()
    for asked_s, stays in ((60, True), (-1, True), (None, True), (0, False)):
        residency.bring(models["a"])
        residency.keep(models["a"], asked_s)
        left_s, [held] = residency.let_go({models["a"]}), residency.residents
        assert left_s is None
        assert held.ends_s == (pytest.approx(time.monotonic() + asked_s, abs=5) if asked_s in (0, 60) else None)
        residency.let_go(())
        assert names(residency) == ({"a"} if stays else set())
    residency.bring(models["a"])
    assert residency.let_go(()) is None, "the next one gets the limit again"


def test_what_is_asked_for_a_checkpoint_is_no_word_for_others_or_for_a_pinned_one(models):
    residency = new_residency(keep_alive_s=60, pinned=frozenset("b"))
    for name in "abc":
        residency.bring(models[name])
    for name in "ab":
        residency.keep(models[name], 0)
    assert 0 < residency.let_go(()) <= 60
    assert names(residency) == {"b", "c"}


def test_a_checkpoint_that_is_dismissed_leaves_after_the_last_who_uses_it(models):
    residency = new_residency(pinned=frozenset("b"))
    for name in "ab":
        residency.bring(models[name])
        residency.dismiss(name)
    assert {each.name: each.is_leaving for each in residency.residents} == {"a": True, "b": False}
    residency.let_go({models["a"]})
    assert names(residency) == {"a", "b"}
    residency.let_go(())
    assert names(residency) == {"b"}


def test_who_comes_after_a_dismissal_has_the_last_word(models):
    residency = new_residency()
    residency.bring(models["a"])
    residency.dismiss("a")
    residency.keep(models["a"], None)
    residency.let_go(())
    assert names(residency) == {"a"}


def test_what_was_asked_for_outlives_a_time_outside(models):
    residency = new_residency(budget_bytes=SIZE)
    residency.bring(models["a"])
    residency.keep(models["a"], 60)
    residency.bring(models["b"])
    residency.let_go(models.values())
    residency.bring(models["a"])
    assert 0 < residency.let_go(()) <= 60
    residency.bring(models["b"])
    assert residency.let_go(()) is None


def test_what_a_file_was_before_leaves_when_nobody_is_painted_with_it_even_a_pinned_one(models):
    residency = new_residency(pinned=frozenset("a"))
    before, after = (replace(models["a"], stamp=stamp) for stamp in ("1", "2"))
    old = residency.pipeline(before)
    residency.let_go({before})
    assert residency.pipeline(after) is not old
    residency.let_go({before, after})
    assert residency.pipeline(before) is old
    residency.let_go({after})
    assert residency.held == [after]


def test_equal_tensors_take_their_place_once(models):
    residency = new_residency()
    one, other = (residency.pipeline(models[name]).components for name in "ab")
    assert one.vae.weight.data_ptr() == other.vae.weight.data_ptr()
    assert one.unet[0].weight.data_ptr() != other.unet[0].weight.data_ptr()
    assert residency.size == 2 * SIZE - VAE_MATRIX


def test_a_change_of_one_is_no_change_of_the_other_that_shares(models):
    residency = new_residency()
    one, other = (residency.pipeline(models[name]).components for name in "ab")
    kept = {name: tensor.clone() for name, tensor in other.vae.state_dict().items()}
    one.vae.to(torch.float64)
    assert {tensor.dtype for tensor in other.vae.parameters()} == {torch.float32}
    residency.unload(keep=[models["b"]])
    assert all(torch.equal(tensor, kept[name]) for name, tensor in other.vae.state_dict().items())
    residency.bring(models["a"])
    assert names(residency) == {"a", "b"}


def test_what_is_unloaded_goes_back_to_the_system(models):
    """Freed pieces that lie below one that is in use stay with the process until it trims them."""

    def load(weights, leaver=None):
        pipeline = loaded(weights)
        pipeline.more = [torch.ones(16 * 1024) for _ in range(1000)]  # 64 MB in pieces of 64 kB, as weights are
        return pipeline

    residency = new_residency(load, keep_alive_s=0)
    residency.bring(models["a"])
    anchor = torch.ones(16 * 1024)
    before = resident_bytes()
    residency.let_go(())
    assert before - resident_bytes() > 55_000_000
    assert anchor.sum() == 16 * 1024


def test_weights_of_one_family_come_into_the_memory_that_others_leave(models):
    """The system gives no new pages for them, as it does when the memory has gone back to it in between."""
    below = []

    def load(weights, leaver=None):
        if leaver:
            leaver.pipeline.more.clear()
        pipeline = loaded(weights)
        pipeline.more = [torch.ones(16 * 1024) for _ in range(1000)]
        below.append(torch.ones(16 * 1024))
        return pipeline

    residency = new_residency(load, budget_bytes=int(1.5 * SIZE))
    residency.bring(models["a"])
    swaps = [new_pages(lambda name=name: residency.bring(models[name])) for name in "cac"]
    replaced = new_pages(lambda: residency.bring(replace(models["a"], family="sd1")))
    assert min(swaps) < 0.3 * replaced  # other threads of this process ask for pages, too, but not each time
    assert replaced > 10_000


def test_a_file_that_is_not_there_pushes_nobody_out(models, tmp_path):
    residency = new_residency(budget_bytes=SIZE)
    residency.bring(models["a"])
    with pytest.raises(CheckpointUnavailable, match="gone is not there any more"):
        residency.bring(Weights("gone", str(tmp_path / "gone.safetensors"), "shapes"))
    assert names(residency) == {"a"}


def test_a_load_without_memory_is_tried_again_without_the_others(models):
    short = []

    def load(weights, leaver=None):
        if weights.name == "b" and not short:
            short.append(weights)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return loaded(weights)

    residency = new_residency(load)
    for name in "ab":
        residency.bring(models[name])
    assert names(residency) == {"b"}


def test_what_a_checkpoint_will_take_is_known_from_its_header(engine, ask):
    for weights in (ask().weights, ask(path=str(ask().weights.path) + "-file.safetensors").weights):
        engine.warm(weights)
        [held] = [each for each in engine.residents if each.name == weights.name]
        assert expected_bytes(weights, 4) == pytest.approx(held.size, rel=0.01)
        assert expected_bytes(weights, 2) == pytest.approx(held.size / 2, rel=0.01)
    assert expected_bytes(Weights("none", "/nowhere", "shapes"), 2) == 0


def test_a_file_is_read_ahead(tmp_path):
    file = tmp_path / "large.safetensors"
    size = 32 * 2**20
    with file.open("wb") as content:
        content.write(b"weights." * (size // 8))
        content.flush()
        os.fsync(content.fileno())
        os.posix_fadvise(content.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if is_in_memory(file, size - 4096):
        pytest.skip("the files of this folder are always in memory")
    read_ahead(Weights("large", str(file), "shapes"))
    until(lambda: is_in_memory(file, size - 4096))


def test_checkpoints_beyond_the_budget_paint_the_same_one_after_the_other(engine, ask, tiny, tmp_path):
    other = tmp_path / "other.safetensors"
    save_file({name: tensor * 1.01 for name, tensor in load_file(tiny.file).items()}, other)
    narrow = Engine(device="cpu", limits=Limits(budget_bytes=expected_bytes(ask().weights, 4)))
    for path in (tiny.folder, other, tiny.folder):
        request = ask(path=path, steps=1)
        assert narrow.paint(request).images == engine.paint(request).images
        assert [each.name for each in narrow.residents] == [path.stem]
    narrow.close()


def test_the_engine_lets_go_while_it_has_nothing_to_do(ask):
    engine = Engine(device="cpu", limits=Limits(keep_alive_s=0))
    assert engine.paint(ask(steps=1)).load_s > 0
    until(lambda: not engine.residents)
    engine.close()


def test_a_picture_is_the_last_one_of_its_checkpoint_and_says_nothing_of_that(engine, ask):
    one, other = ask(steps=1, keep_alive_s=0), ask(steps=1, keep_alive_s=60)
    [picture], [same] = engine.paint(one).images, engine.paint(other).images
    assert picture.content == same.content
    [held] = [each for each in engine.residents if each.name == "tiny"]
    assert held.ends_s == pytest.approx(time.monotonic() + 60, abs=20)
    engine.paint(one)
    until(lambda: "tiny" not in names(engine))


def test_a_request_of_no_picture_loads_its_checkpoint(engine, ask):
    engine.unload("tiny")
    assert engine.paint(ask(n=0)).load_s > 0
    assert "tiny" in names(engine)
    assert engine.paint(ask(n=0)).load_s == 0


def test_a_dismissed_checkpoint_finishes_what_is_painted_with_it(engine, ask):
    told = []

    def dismiss(progress):
        if not told:
            engine.dismiss("tiny")
            told.extend(each.is_leaving for each in engine.residents if each.name == "tiny")

    engine.warm(ask().weights)
    assert engine.paint(ask(steps=8), dismiss).load_s == 0
    assert told == [True]
    until(lambda: "tiny" not in names(engine))


def test_an_engine_is_told_to_unload(ask):
    engine = Engine(device="cpu", limits=Limits(pinned=frozenset({"tiny"})))
    engine.warm(ask().weights)
    engine.unload("tiny")
    assert engine.residents == ()
    engine.close()


def test_a_share_of_the_machine_is_the_budget_where_nobody_says_one():
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0.01 * machine < memory_for_weights(torch.device("cpu")) <= 0.5 * machine


def until(holds) -> None:
    ends_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < ends_s
        time.sleep(0.01)


def is_in_memory(file, place) -> bool:
    """Can the page be read without waiting for the disk?"""
    with file.open("rb") as content:
        try:
            return os.preadv(content.fileno(), [bytearray(1)], place, os.RWF_NOWAIT) == 1
        except BlockingIOError:
            return False


def new_pages(work) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
