"""Prompts are encoded beside a UNet call, and at no other time."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from workers.diffusion.loop.foresight import Foresight
from workers.diffusion.request import Lora


class _Pipeline:
    """Says which prompts it encoded, and when the first one was done."""

    def __init__(self) -> None:
        self.prompts, self.done = [], threading.Event()

    def encode(self, prompt, request, negative=False):
        self.prompts.append(prompt)
        if prompt == "broken":
            raise RuntimeError("broken")
        if negative:
            self.done.set()


def ticket(prompt, is_begun=False, loras=()):
    request = SimpleNamespace(weights="w", prompt=prompt, negative_prompt=f"no {prompt}", guidance_scale=5, loras=loras)
    return SimpleNamespace(request=request, is_begun=is_begun)


@pytest.fixture
def pipeline():
    return _Pipeline()


@pytest.fixture
def foresight(pipeline):
    beside = Foresight({"w": pipeline}.get)
    yield beside
    beside.close()


def test_who_comes_during_a_call_is_encoded_in_it(foresight, pipeline):
    foresight.expect(ticket("before"))
    with foresight.away():
        assert pipeline.done.wait(60)
    foresight.expect(ticket("after"))
    foresight.close()
    assert pipeline.prompts == ["before", "no before"]


def test_who_has_begun_or_wears_loras_is_left_alone_and_who_is_broken_harms_nobody(foresight, pipeline):
    with foresight.away():
        foresight.expect(ticket("begun", is_begun=True))
        foresight.expect(ticket("dressed", loras=(Lora("l", "/l"),)))
        foresight.expect(ticket("broken"))
        foresight.expect(ticket("whole"))
        assert pipeline.done.wait(60)
    assert pipeline.prompts == ["broken", "whole", "no whole"]
