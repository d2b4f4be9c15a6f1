"""Prompts are encoded beside a UNet call, and at no other time."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
import torch

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


def ticket(prompt, is_begun=False, loras=(), exclusive=False):
    asked = {"weights": "w", "prompt": prompt, "negative_prompt": f"no {prompt}", "guidance_scale": 5}
    return SimpleNamespace(request=SimpleNamespace(**asked, loras=loras, exclusive=exclusive), is_begun=is_begun)


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


def test_who_has_begun_or_wears_loras_or_is_to_repeat_is_left_alone_and_who_is_broken_harms_nobody(foresight, pipeline):
    with foresight.away():
        foresight.expect(ticket("begun", is_begun=True))
        foresight.expect(ticket("dressed", loras=(Lora("l", "/l"),)))
        foresight.expect(ticket("exclusive", exclusive=True))
        foresight.expect(ticket("broken"))
        foresight.expect(ticket("whole"))
        assert pipeline.done.wait(60)
    assert pipeline.prompts == ["broken", "whole", "no whole"]


def test_the_engine_comes_back_after_the_request_that_is_being_encoded_whoever_waits_besides(foresight, pipeline):
    def slowly(prompt, request, negative=False):
        pipeline.prompts.append(prompt)
        pipeline.done.set()
        go_on.wait(20)

    go_on, pipeline.encode = threading.Event(), slowly
    for number in range(50):
        foresight.expect(ticket(str(number)))
    with foresight.away():
        assert pipeline.done.wait(20)
        threading.Timer(0.05, go_on.set).start()
    assert pipeline.prompts in (["0", "no 0"], ["0"])
    foresight.close()


def test_it_calculates_on_one_core_whatever_the_others_have(pipeline):
    """OpenMP lets two teams of threads wait for each other at every operation, for as long as both are there."""
    has_begun, seen, before = threading.Event(), [], torch.get_num_threads()

    def calculate(prompt, request, negative=False):
        assert has_begun.wait(60)
        torch.ones(100_000).exp()
        seen.append(torch.get_num_threads())
        pipeline.done.set()

    torch.set_num_threads(2)
    try:
        pipeline.encode = calculate
        beside = Foresight({"w": pipeline}.get)
        beside.expect(ticket("one"))
        with beside.away():
            has_begun.set()  # by now the number is the others' again
            assert pipeline.done.wait(60)
        beside.close()
        assert (seen[0], torch.get_num_threads()) == (1, 2)
    finally:
        torch.set_num_threads(before)
