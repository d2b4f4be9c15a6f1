"""A picture may be developed beside the calls of others. Here stand-ins take the place of a GPU's stream."""

from __future__ import annotations

import io
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from app.errors import NodeFailed
from workers.diffusion.checkpoint.files_ahead import expected_bytes
from workers.diffusion.checkpoint.side import Beside, Here
from workers.diffusion.drawing.given import given_with
from workers.diffusion.engine import Engine
from workers.diffusion.loop.ticket import Ticket
from workers.diffusion.request import Limits


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


def pixels(painted) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(painted.images[0].content))).astype(int)


def halve(engine, vae) -> None:
    """Has the autoencoder decode in half precision, which overflows."""
    engine.between_turns(lambda: vae.to(torch.bfloat16))
    vae.decoder.register_forward_hook(
        lambda module, given, made: made * float("nan") if made.dtype == torch.bfloat16 else made
    )


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
    request = ask(n=3, steps=2, exclusive=True)  # which pictures share a call depends on how long calls take
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


def test_pictures_that_overflow_side_by_side_are_all_decoded_again_in_full(slow, ask):
    beside, side = slow
    halve(beside, beside.residency.pipeline(ask().weights).components.vae)
    request = ask(n=2, steps=2)
    first = beside.paint(request)
    assert len(side.started) == 2
    assert first.images == beside.paint(request).images, "by now it is in full, as the first two were in the end"


def test_what_overflows_is_decoded_again_by_its_own_autoencoder_though_another_has_its_place(ask, tiny, tmp_path):
    """The other checkpoint comes into the memory of the first one while that one's picture is being developed."""
    weights = {name: tensor * (-1 if "decoder" in name else 1.01) for name, tensor in load_file(tiny.file).items()}
    save_file(weights, tmp_path / "other.safetensors")
    narrow, side = Engine(device="cpu", limits=Limits(budget_bytes=expected_bytes(ask().weights, 4))), _Slow()
    request = ask(path=tiny.file, steps=2)
    alone = pixels(narrow.paint(request))
    pipeline, came = narrow.residency.pipeline(request.weights), []
    pipeline._side = side
    halve(narrow, pipeline.components.vae)
    other = Ticket(ask(path=tmp_path / "other.safetensors", steps=1), given_with(ask()), lambda: False, lambda *_: None)

    def come(module, given) -> None:
        if not came:
            came.append(narrow._loop.give(other))

    pipeline.components.unet.register_forward_pre_hook(come)
    assert np.abs(pixels(narrow.paint(request)) - alone).mean() < 2
    other.follow(lambda progress: None)
    narrow.close()


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
