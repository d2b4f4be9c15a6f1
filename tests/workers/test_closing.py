"""Nobody waits for ever, and nothing is painted for nobody: callers that go, and an engine that is closed."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from app.errors import Unavailable
from workers.diffusion.engine import Engine
from workers.diffusion.pictures.previews import Previewer
from workers.diffusion.request import Hires


def test_whoever_waits_for_an_engine_that_is_closed_is_told(ask):
    engine, begun = Engine(device="cpu"), threading.Event()
    with ThreadPoolExecutor(4) as threads:
        painting = threads.submit(engine.paint, ask(steps=900), lambda progress: begun.set())
        begun.wait()
        other = threads.submit(engine.paint, ask(steps=900, width=72))
        engine.close()
        for each in (painting, other):
            with pytest.raises(Unavailable, match="closed"):
                each.result(60)
    for late in (lambda: engine.paint(ask()), lambda: engine.unload("tiny"), lambda: engine.warm(ask().weights)):
        with pytest.raises(Unavailable, match="closed"):
            late()
    engine.close()


@pytest.mark.parametrize("hires", [None, Hires(2.0, upscaler="lanczos")], ids=["between calls", "between passes"])
def test_nothing_is_painted_on_for_a_caller_that_has_gone(engine, ask, hires):
    request = ask(steps=2 if hires else 900, hires=hires)
    with pytest.raises(ZeroDivisionError):
        engine.paint(request, lambda progress: 1 / 0)
    until(lambda: not engine._loop._open)
    assert engine.paint(ask(steps=1)).images


def test_a_caller_that_can_not_say_whether_to_stop_harms_nobody_else(engine, ask):
    with ThreadPoolExecutor(2) as threads:
        fine = threads.submit(engine.paint, ask(steps=20))
        with pytest.raises(ZeroDivisionError):
            engine.paint(ask(seed=1), should_stop=lambda: 1 / 0)
        assert fine.result().images


def test_a_preview_that_can_not_be_made_is_no_harm_to_the_picture(engine, ask, monkeypatch):
    def fail(self, latents):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Previewer, "jpeg", fail)
    told = []
    painted = engine.paint(ask(previews=True), told.append)
    assert painted.images == engine.paint(replace(ask(), previews=False)).images
    assert {progress.preview for progress in told} == {None}


def test_progress_counts_each_call_once_though_one_picture_is_between_its_passes(engine, ask):
    told = []
    request = ask(steps=4, n=2, exclusive=True, hires=Hires(2.0, 0.5, upscaler="lanczos"))
    engine.paint(request, lambda progress: told.append(progress.step))
    assert told == [1, 2, 3, 4, 5, 6]


def until(holds) -> None:
    ends_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < ends_s
        time.sleep(0.01)
