"""Requests that are there at the same time share their UNet calls, and nobody can tell from the pictures."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from app.errors import OutOfMemory
from workers.diffusion.drawing.schedulers import SAMPLERS
from workers.diffusion.request import StopRequested


def pixels(painted) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(painted.images[0].content)).convert("RGB")).astype(int)


def furthest(one, other) -> int:
    return int(np.abs(pixels(one) - pixels(other)).max())


@pytest.fixture
def rows(engine, ask):
    """How many rows each UNet call had."""
    seen = []
    unet = engine.residency.pipeline(ask().weights).components.unet
    hook = unet.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    yield seen
    hook.remove()


def test_a_mixed_crowd_gets_the_pictures_that_each_would_get_alone(engine, ask, at_once, rows):
    """Many samplers, at different steps, guidances and prompts, in the same calls."""
    requests = [
        ask(
            sampler=name,
            seed=i,
            height=56,
            steps=3 + i % 4,
            guidance_scale=(1.0, 3.0, 7.5)[i % 3],
            prompt=f"a red star {i}",
        )
        for i, name in enumerate(list(SAMPLERS)[::5])
    ]
    together = at_once(requests)
    assert max(rows) > 4
    assert len(rows) < sum(request.steps for request in requests)
    for request, painted in zip(requests, together, strict=True):
        assert furthest(painted, engine.paint(request)) <= 1, request.sampler


def test_sizes_that_differ_take_turns(engine, ask, at_once, rows):
    requests = [ask(steps=4, width=48), ask(steps=4, width=96), ask(steps=4, width=48, seed=1)]
    small, wide, other = at_once(requests)
    assert rows.count(4) >= 4
    assert len(rows) <= 8
    assert pixels(wide).shape == (64, 96, 3)
    assert furthest(small, engine.paint(requests[0])) <= 1
    assert furthest(other, engine.paint(requests[2])) <= 1


def test_who_joins_is_let_in_at_the_next_call(engine, ask, rows):
    early, late = ask(steps=60, height=72), ask(steps=2, height=72, seed=8)
    with ThreadPoolExecutor(1) as threads:
        joined = []

        def join(progress):
            if progress.step == 2:
                joined.append(threads.submit(engine.paint, late))

        first = engine.paint(early, on_progress=join)
        second = joined[0].result()
    assert 4 in rows
    assert len(rows) == early.steps
    assert furthest(first, engine.paint(early)) <= 1
    assert furthest(second, engine.paint(late)) <= 1


def test_who_is_exclusive_is_alone_in_every_call_and_the_same_bit_for_bit(engine, ask, at_once, rows):
    alone = engine.paint(ask(steps=4, exclusive=True, n=2))
    rows.clear()
    crowded, *_ = at_once([ask(steps=4, exclusive=True, n=2), ask(steps=4, seed=1), ask(steps=4, seed=2)])
    assert rows.count(2) >= 8
    assert crowded.images == alone.images


def test_who_is_exclusive_does_not_read_prompts_as_another_thread_has_encoded_them(engine, ask):
    """With another number of threads, and so with other bits."""
    encoded, asked = [], ask(steps=1, prompt="a red star alone")
    encoder = engine.residency.pipeline(asked.weights).components.text_encoders[0]
    hook = encoder.register_forward_pre_hook(lambda module, given: encoded.append(1))
    counts = []
    for exclusive in (False, False, True, True):
        engine.paint(replace(asked, exclusive=exclusive))
        counts.append(len(encoded))
    hook.remove()
    assert counts[0] == counts[1] < counts[2] == counts[3]


def test_a_stop_of_one_leaves_the_others_alone(engine, ask):
    stop = threading.Event()
    with ThreadPoolExecutor(2) as threads:
        stopped = threads.submit(engine.paint, ask(steps=150, seed=1, width=88), should_stop=stop.is_set)
        other = threads.submit(
            engine.paint, ask(steps=30, seed=2, width=88), lambda progress: progress.step == 3 and stop.set()
        )
        with pytest.raises(StopRequested):
            stopped.result()
        assert furthest(other.result(), engine.paint(ask(steps=30, seed=2, width=88))) <= 1


def test_one_that_fails_on_its_way_takes_no_other_with_it(engine, ask, at_once, monkeypatch):
    kind = SAMPLERS["ddim"].kind
    step = kind.step
    monkeypatch.setattr(kind, "step", lambda *given, **named: 1 / 0)
    with ThreadPoolExecutor(2) as threads:
        broken = threads.submit(engine.paint, ask(sampler="ddim"))
        fine = threads.submit(engine.paint, ask(seed=3))
        with pytest.raises(ZeroDivisionError):
            broken.result()
    monkeypatch.setattr(kind, "step", step)
    assert furthest(fine.result(), engine.paint(ask(seed=3))) <= 1


def test_one_that_fails_in_the_shared_call_takes_no_other_with_it(engine, ask, rows):
    """Rows that the UNet chokes on are found by trying each request by itself."""
    good, bad = ask(steps=20, width=112), ask(steps=20, width=112, prompt="poison")
    pipeline = engine.residency.pipeline(good.weights)
    poison = pipeline.encode(bad.prompt, bad).embedding[0]
    refused = []

    def choke(module, given):
        if any(torch.equal(row, poison) for row in given[2]):
            refused.append(len(given[0]))
            raise ValueError("poison")

    hook = pipeline.components.unet.register_forward_pre_hook(choke)
    with ThreadPoolExecutor(1) as threads:
        joined = []
        fine = engine.paint(good, lambda told: joined or joined.append(threads.submit(engine.paint, bad)))
        with pytest.raises(ValueError, match="poison"):
            joined[0].result()
    hook.remove()
    assert refused == [4, 2]
    assert furthest(fine, engine.paint(good)) <= 1


def test_a_call_that_does_not_fit_is_made_in_halves(engine, ask, at_once):
    unet = engine.residency.pipeline(ask().weights).components.unet
    refused = []

    def small(module, given):
        if len(given[0]) > 2:
            refused.append(len(given[0]))
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook = unet.register_forward_pre_hook(small)
    requests = [ask(steps=3, seed=seed, width=72) for seed in range(3)]
    together = at_once(requests)
    hook.remove()
    assert refused
    for request, painted in zip(requests, together, strict=True):
        assert furthest(painted, engine.paint(request)) <= 1


def test_the_one_picture_that_does_not_fit_fails_and_the_next_is_painted(engine, ask):
    unet = engine.residency.pipeline(ask().weights).components.unet

    def never(module, given):
        raise torch.OutOfMemoryError("CUDA out of memory")

    hook = unet.register_forward_pre_hook(never)
    with pytest.raises(OutOfMemory):
        engine.paint(ask(width=80))
    hook.remove()
    assert engine.paint(ask(width=80, steps=1))
