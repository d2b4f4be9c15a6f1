"""A picture may be developed beside the calls of others. Here stand-ins take the place of a GPU's stream."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from app.errors import NodeFailed
from workers.diffusion.checkpoint.side import Beside, Here
from workers.diffusion.engine import Engine


class _Later:
    """Ready only when somebody waits for it."""

    def __init__(self, results, waited) -> None:
        self.results, self.waited, self.is_ready = results, waited, False

    def wait(self):
        self.is_ready = True
        self.waited.append(self)
        return self.results


class _Slow:
    def __init__(self) -> None:
        self.started, self.waited, self.finished = [], [], 0

    def start(self, work, uses):
        self.started.append(_Later(Here().start(work, uses).wait(), self.waited))
        return self.started[-1]

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def slow(ask):
    """An engine whose pictures take their time, and its side."""
    engine, side = Engine(device="cpu"), _Slow()
    engine.warm(ask().weights)
    engine.residency.pipeline(ask().weights)._side = side
    yield engine, side
    engine.close()


def test_a_picture_that_takes_its_time_is_handed_out_when_it_is_done(slow, engine, ask):
    beside, side = slow
    request = ask(n=3, steps=2)
    assert beside.paint(request).images == engine.paint(request).images
    assert len(side.started) == 3


def test_others_go_on_meanwhile(slow, ask):
    beside, side = slow
    calls = []
    unet = beside.residency.pipeline(ask().weights).components.unet
    hook = unet.register_forward_pre_hook(lambda module, given: calls.append((len(side.started), len(side.waited))))
    beside.paint(ask(n=2, steps=3, exclusive=True))
    hook.remove()
    assert (1, 0) in calls, "the second picture was painted before anybody waited for the first one"


def test_what_is_no_number_fails_though_it_is_known_late(slow, ask):
    beside, side = slow
    unet = beside.residency.pipeline(ask().weights).components.unet
    hook = unet.register_forward_hook(lambda module, given, answer: (answer[0] * float("nan"),))
    with pytest.raises(NodeFailed, match="gave no numbers"):
        beside.paint(ask(steps=1))
    hook.remove()
    assert len(side.started) == 1
    assert beside.paint(ask(steps=1)).images


def test_weights_do_not_go_while_they_are_read(slow, ask):
    beside, side = slow
    before = side.finished
    beside.unload(ask().weights.name)
    assert side.finished > before


def test_a_stream_begins_behind_what_was_asked_for_and_keeps_what_it_reads(monkeypatch):
    told = []

    class Stream:
        def __init__(self, device) -> None: ...

        def wait_stream(self, other) -> None:
            told.append(("waits for", other))

        def synchronize(self) -> None:
            told.append("finished")

    class Event:
        def record(self, stream) -> None:
            told.append("marked")

        def query(self) -> bool:
            return False

        def synchronize(self) -> None:
            told.append("waited")

    class Latents:
        def record_stream(self, stream) -> None:
            told.append("kept")

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "the calls")
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    side = Beside(torch.device("cuda"), pinned=False)
    pending = side.start(lambda: told.append("worked") or [torch.ones(2)], [Latents()])
    assert told == [("waits for", "the calls"), "kept", "worked", "marked"]
    assert not pending.is_ready
    assert torch.equal(pending.wait()[0], torch.ones(2))
    side.finish()
    assert told[-2:] == ["waited", "finished"]
