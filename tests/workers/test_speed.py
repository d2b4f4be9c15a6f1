"""Recordings of UNet calls are played only where they give the same numbers in less time. Here a stand-in records."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from workers.diffusion.checkpoint import speed
from workers.diffusion.checkpoint.speed import MOST_ROWS, CudaGraph, RecordedUNet
from workers.diffusion.loop.stopwatch import Stopwatch


class _UNet(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1), requires_grad=False)
        self.calls = 0

    def forward(self, inputs, timesteps, texts, added_cond_kwargs=None, return_dict=False, **more):
        self.calls += 1
        return (inputs * self.weight + timesteps[:, None],)


class _Tape:
    """Knows by heart what the UNet would say; `off` by so much."""

    def __init__(self, unet, off=0.0) -> None:
        self.weight, self.off, self.played = unet.weight, off, 0

    def play(self, call):
        self.played += 1
        return call.inputs * self.weight + call.timesteps[:, None] + self.off


@pytest.fixture
def unet():
    return _UNet()


def recorded(unet, off=0.0, speed=0.5):
    """The UNet with recordings, and the list of them; the clock says that one takes `speed` times as long as a call."""
    tapes = []
    clock = itertools.accumulate(itertools.cycle([0, 1.0] * 3 + [0, speed] * 3))

    def record(module, call, like):
        tapes.append(_Tape(module, off))
        return tapes[-1]

    return RecordedUNet(unet, record, lambda: next(clock)), tapes


def ask(quick, number=0, rows=2, **more):
    inputs = torch.full((rows, 3), float(number))
    answer = quick(inputs, torch.arange(rows).float(), torch.zeros(rows, 1), None, return_dict=False, **more)[0]
    return inputs, answer


def test_a_call_that_comes_often_is_played(unet):
    quick, tapes = recorded(unet)
    for number in range(20):
        inputs, answer = ask(quick, number)
        assert torch.equal(answer, inputs + torch.arange(2.0)[:, None])
    assert len(tapes) == 1
    assert tapes[0].played > 10
    assert unet.calls < 15


def test_other_weights_have_a_recording_of_their_own(unet):
    quick, tapes = recorded(unet)
    for _ in range(10):
        ask(quick)
    first, unet.weight = unet.weight, torch.nn.Parameter(torch.full((1,), 3.0), requires_grad=False)
    for _ in range(10):
        assert torch.equal(ask(quick, 2)[1], torch.full((2, 3), 6.0) + torch.arange(2.0)[:, None])
    unet.weight = first
    assert torch.equal(ask(quick, 2)[1], torch.full((2, 3), 2.0) + torch.arange(2.0)[:, None])
    assert len(tapes) == 2


@pytest.mark.parametrize("trouble", [{"off": 0.01}, {"speed": 1.0}], ids=["it differs", "it is no faster"])
def test_a_recording_that_differs_or_does_not_pay_is_never_played_again(unet, trouble):
    quick, tapes = recorded(unet, **trouble)
    for number in range(20):
        inputs, answer = ask(quick, number)
        assert torch.equal(answer, inputs + torch.arange(2.0)[:, None])
    assert len(tapes) == 1
    assert tapes[0].played < 6


def test_where_recording_fails_all_goes_on_without(unet):
    def refuse(module, call, like):
        refused.append(1)
        raise RuntimeError("operation not permitted when stream is capturing")

    refused = []
    quick = RecordedUNet(unet, refuse, lambda: 0.0)
    for rows in (1, 2):
        for _ in range(10):
            assert torch.isfinite(ask(quick, rows=rows)[1]).all()
    assert len(refused) == 1


def test_large_calls_and_those_with_more_than_usual_are_not_recorded(unet):
    quick, tapes = recorded(unet)
    for _ in range(10):
        ask(quick, rows=MOST_ROWS + 1)
        ask(quick, mid_block_additional_residual=torch.zeros(1))
    assert tapes == []


def test_where_more_kinds_come_in_turn_than_there_is_room_for_little_time_goes_into_recording(unet, monkeypatch):
    monkeypatch.setattr(speed, "_MOST", 4)
    quick, tapes = recorded(unet)
    for _ in range(100):
        for rows in range(1, 9):
            ask(quick, rows=rows)
    assert len(tapes) < 5 * 8
    assert sum(tape.played for tape in tapes) > 4 * len(tapes)


def test_what_is_counted_is_bounded(unet, monkeypatch):
    """Each LoRA puts the weights at other places, and no call is the same as one before."""
    monkeypatch.setattr(speed, "_MOST_SEEN", 20)
    quick, tapes = recorded(unet)
    kept = []
    for number in range(200):
        unet.weight = torch.nn.Parameter(torch.full((1,), float(number)), requires_grad=False)
        kept.append(unet.weight)
        for _ in range(number % 3 * 4):
            ask(quick)
    assert tapes
    assert len(quick._seen) <= 21
    assert len(quick._wanted) <= 21


def test_a_recording_that_fails_leaves_the_stream_as_it_was(unet, monkeypatch):
    """As torch's own recording does not where its end fails, too."""
    current, told = ["the calls"], []

    class Stream:
        def wait_stream(self, other) -> None:
            told.append(other)

    class Graph:
        def __init__(self, *given, stream, **more) -> None:
            told.append("recorded")
            current[0] = stream

        def __enter__(self) -> None: ...

        def __exit__(self, *error) -> None:
            raise RuntimeError("operation failed due to a previous error during capture")

    @contextmanager
    def stream(chosen):
        before, current[0] = current[0], chosen
        try:
            yield
        finally:
            current[0] = before

    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: current[0])
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "graph", Graph)
    side = Stream()
    quick = RecordedUNet(unet, lambda unet, call, like: CudaGraph(unet, call, side, like), lambda: 0.0)
    for _ in range(10):
        assert torch.isfinite(ask(quick)[1]).all()
    assert told == ["the calls", "recorded"]
    assert current == ["the calls"]


def test_a_gpus_time_is_told_when_the_next_piece_has_been_handed_over(monkeypatch):
    waited, told = [], []

    class Event:
        def __init__(self, enable_timing) -> None:
            self.number = next(numbers)

        def record(self) -> None: ...

        def synchronize(self) -> None:
            waited.append(self.number)

        def elapsed_time(self, end) -> float:
            return 1000.0 * (end.number - self.number)

    numbers = itertools.count()
    monkeypatch.setattr(torch.cuda, "Event", Event)
    watch = Stopwatch(SimpleNamespace(type="cuda"))
    for name in ("first", "second", "third"):
        with watch.measure(lambda seconds, name=name: told.append((name, seconds))):
            pass
    assert told == [("first", 1.0), ("second", 1.0)]
    assert waited == [1, 3]


def test_what_fails_is_not_measured():
    told = []
    watch = Stopwatch(torch.device("cpu"))
    with pytest.raises(RuntimeError), watch.measure(told.append):
        raise RuntimeError
    assert told == []
