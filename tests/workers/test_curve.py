"""How many rows a UNet call should have: what was measured says it, and what did not fit."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from workers.diffusion.loop import curve
from workers.diffusion.loop.curve import MOST_ROWS, Curve


@pytest.fixture
def clock(monkeypatch):
    told = SimpleNamespace(now_s=1000.0)
    monkeypatch.setattr(curve, "time", SimpleNamespace(monotonic=lambda: told.now_s))
    return told


def measured(seconds: dict[int, float]) -> Curve:
    made = Curve()
    for rows, each_s in seconds.items():
        for _ in range(8):
            made.note(rows, each_s)
    return made


def test_a_call_grows_while_that_pays(clock):
    assert Curve().cap == 16
    assert measured({2: 1.0, 4: 1.1, 8: 1.2, 16: 1.3}).cap == 32
    assert measured({16: 1.0, 32: 1.1, 64: 1.2}).cap == MOST_ROWS
    assert measured({2: 1.0, 4: 1.1, 8: 2.2}).cap == 4


def test_what_did_not_pay_is_tried_again_after_a_while(clock):
    busy = measured({2: 1.0, 4: 1.1, 8: 2.2})
    clock.now_s += 31
    assert busy.cap == 16


def test_what_did_not_fit_is_tried_again_much_later(clock):
    full = measured({2: 1.0, 4: 1.1})
    full.limit(4)
    clock.now_s += 500
    assert full.cap == 4
    clock.now_s += 101
    assert full.cap == 16
