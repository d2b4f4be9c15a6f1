"""The engine paints what diffusers paints, and says what happened when it can't."""

from __future__ import annotations

import io
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from app.errors import CheckpointUnavailable, NodeFailed, OutOfMemory
from tests.workers.plain import painted_by_diffusers
from workers.diffusion.drawing.schedulers import SAMPLERS
from workers.diffusion.engine import Engine
from workers.diffusion.request import StopRequested

PLAIN = [name for name in SAMPLERS if not name.endswith(("_karras", "_exponential", "_sgm_uniform"))]


def pixels(image) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image.content)).convert("RGB")).astype(int)


def furthest(one, other) -> int:
    return int(np.abs(one - other).max())


@pytest.fixture(scope="module")
def diffusers_pipeline(tiny) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(tiny.folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def crowd(engine, ask) -> dict[str, tuple]:
    """For each sampler a request and its picture: all painted at the same time, with different steps and guidances."""
    requests = {
        name: ask(sampler=name, steps=3 + i % 4, guidance_scale=(1.0, 4.0, 7.5)[i % 3], seed=i, prompt=f"a star, {i}")
        for i, name in enumerate(SAMPLERS)
    }
    with ThreadPoolExecutor(len(requests)) as threads:
        painted = dict(zip(requests, threads.map(engine.paint, requests.values()), strict=True))
    return {name: (requests[name], painted[name].images[0]) for name in requests}


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_picture_is_the_one_that_diffusers_paints_alone(name, crowd, diffusers_pipeline):
    request, ours = crowd[name]
    chosen = SAMPLERS[name]
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    schedule["set_alpha_to_one"] = False
    clip = {"clip_sample": False} if name.startswith(("ddim", "ddpm", "lcm", "tcd")) else {}
    skip = {"skip_prk_steps": True} if name == "pndm" else {}
    diffusers_pipeline.scheduler = chosen.kind.from_config(schedule, **clip, **skip, **chosen.options)
    eta = 0.3 if name == "tcd" else 0.0  # what its scheduler takes for good; pipelines say 0 to all
    theirs = painted_by_diffusers(diffusers_pipeline, request, width=64, height=64, eta=eta)
    assert furthest(pixels(ours), theirs) <= 1


@pytest.mark.parametrize("name", PLAIN)
def test_picture_i_of_n_is_the_picture_of_its_own_seed(name, engine, ask):
    together = engine.paint(ask(sampler=name, n=2, seed=40, steps=3)).images
    assert [image.seed for image in together] == [40, 41]
    for image in together:
        [alone] = engine.paint(ask(sampler=name, seed=image.seed, steps=3)).images
        assert furthest(pixels(image), pixels(alone)) <= 1
    assert furthest(pixels(together[0]), pixels(together[1])) > 20


def test_a_seed_and_a_sampler_paint_the_same_picture_twice(engine, ask):
    for name in PLAIN:
        first, second = (engine.paint(ask(sampler=name, steps=2)).images[0].content for _ in range(2))
        assert first == second, name


def test_samplers_differ(engine, ask):
    with ThreadPoolExecutor(len(SAMPLERS)) as threads:
        painted = threads.map(engine.paint, [ask(sampler=name, steps=5) for name in SAMPLERS])
    assert len({pixels(each.images[0]).tobytes() for each in painted}) == len(SAMPLERS)


def test_guidance_of_one_takes_one_row(engine, ask, tiny):
    pipeline = engine.residency.pipeline(ask().weights)
    rows = []
    hook = pipeline.components.unet.register_forward_pre_hook(lambda module, given: rows.append(len(given[0])))
    engine.paint(ask(guidance_scale=1.0, n=2, steps=1, height=104))
    engine.paint(ask(guidance_scale=1.1, n=2, steps=1, height=104))
    hook.remove()
    assert rows == [2, 4]


def test_the_sizes_asked_for_are_the_sizes_painted(engine, ask):
    [image] = engine.paint(ask(width=88, height=40, steps=2)).images
    assert pixels(image).shape == (40, 88, 3)
    assert (image.width, image.height) == (88, 40)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"width": 63}, "multiples of"),
        ({"height": 0}, "multiples of"),
        ({"steps": 0}, "at least one step"),
        ({"n": -1}, "at least one step"),
        ({"seed": -1}, "out of range"),
        ({"seed": 2**63}, "out of range"),
        ({"sampler": "warp drive"}, "no sampler 'warp drive'"),
        ({"sampler": "lcm", "steps": 60}, "can't work in 60 steps"),
    ],
)
def test_what_cannot_be_painted_is_refused_in_a_sentence(engine, ask, changes, says):
    with pytest.raises(NodeFailed, match=says):
        engine.paint(ask(**changes))


@pytest.mark.parametrize(
    "prompt", ["", "一颗红色的星星在蓝色背景上", "a star 🌟" * 200, "half a pair \ud83d", "nul \0 in it"]
)
def test_any_text_is_a_prompt(engine, ask, prompt):
    [image] = engine.paint(ask(prompt=prompt, steps=1)).images
    assert image.content.startswith(b"\x89PNG")


def test_progress_counts_unet_calls_and_the_time_left(engine, ask):
    seen = []
    engine.paint(ask(sampler="heun", steps=5), on_progress=seen.append)
    assert [(each.step, each.steps) for each in seen] == [(i, 9) for i in range(1, 10)]
    assert seen[0].eta_s > 0
    assert seen[-1].eta_s == 0


def test_a_stop_is_heard_before_the_next_unet_call(engine, ask):
    seen, asked = [], itertools.count()
    with pytest.raises(StopRequested):
        engine.paint(ask(steps=20), on_progress=seen.append, should_stop=lambda: next(asked) == 3)
    assert [each.step for each in seen] == [1, 2, 3]
    assert engine.paint(ask(steps=1))


def test_a_stop_before_the_first_call_paints_nothing(engine, ask):
    seen = []
    with pytest.raises(StopRequested):
        engine.paint(ask(), on_progress=seen.append, should_stop=lambda: True)
    assert seen == []


class _Greedy(torch.nn.Module):
    """A UNet for which there is never enough memory."""

    def __init__(self, error: Exception, config) -> None:
        super().__init__()
        self.error, self.config = error, config

    def forward(self, *given, **named):
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 68719476736 bytes."),
    ],
)
def test_out_of_memory_is_retryable_and_leaves_the_engine_usable(error, engine, ask, tiny):
    components = engine.residency.pipeline(ask().weights).components
    unet, components.unet = components.unet, _Greedy(error, components.unet.config)
    try:
        with pytest.raises(OutOfMemory, match="smaller picture") as caught:
            engine.paint(ask())
    finally:
        components.unet = unet
    assert caught.value.retryable
    assert caught.value.__context__ is None  # nothing that would keep the tensors of the failed attempt alive
    assert engine.paint(ask(steps=1))


def test_latents_that_are_no_numbers_fail_the_step(engine, ask, tiny):
    unet = engine.residency.pipeline(ask().weights).components.unet
    hook = unet.register_forward_hook(lambda module, given, answer: (answer[0] * float("nan"),))
    with pytest.raises(NodeFailed, match="weights are damaged"):
        engine.paint(ask(steps=1))
    hook.remove()


def test_a_vae_that_overflows_in_half_precision_goes_on_in_full(ask, tiny):
    engine = Engine(device="cpu")
    engine.dtype = torch.bfloat16
    vae = engine.residency.pipeline(ask().weights).components.vae

    def overflow(module, given, answer):
        return answer * (float("inf") if answer.dtype == torch.bfloat16 else 1)

    vae.decoder.register_forward_hook(overflow)
    [image] = engine.paint(ask(steps=1)).images
    assert vae.dtype == torch.float32
    assert pixels(image).std() > 0


def test_a_replaced_file_is_loaded_again(ask, tiny, tmp_path):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(tiny.file.read_bytes())
    engine = Engine(device="cpu")
    request = ask(path=path, steps=1)
    [before] = engine.paint(request).images
    path.write_bytes(b"\0" * 100)
    with pytest.raises(CheckpointUnavailable, match=r"mine\.safetensors could not be loaded"):
        engine.paint(request)
    path.write_bytes(tiny.file.read_bytes())
    assert engine.paint(request).images[0].content == before.content


def test_a_checkpoint_that_is_gone_is_named(ask):
    with pytest.raises(CheckpointUnavailable, match="gone is not there any more"):
        Engine(device="cpu").paint(ask(path="/nowhere/gone"))
