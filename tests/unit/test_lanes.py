"""How many steps are done side by side."""

from __future__ import annotations

from workers.lanes import Lanes


def free(lanes: Lanes) -> int:
    """How many lanes can be taken at once; all are given back."""
    taken = 0
    while lanes._free.acquire(blocking=False):
        taken += 1
    for _ in range(taken):
        lanes.give()
    return taken


def test_there_are_as_many_lanes_as_asked_for() -> None:
    assert free(Lanes(3)) == 3


def test_the_first_steps_are_done_alone_then_all_lanes_are_used() -> None:
    lanes = Lanes(3, alone=2)
    assert free(lanes) == 1
    for expected in (1, 3, 3):
        lanes.take()
        lanes.give(done=True)
        assert free(lanes) == expected


def test_a_look_that_found_nothing_is_no_step() -> None:
    lanes = Lanes(3, alone=1)
    lanes.take()
    lanes.give()
    assert free(lanes) == 1


def test_a_single_lane_stays_one() -> None:
    lanes = Lanes(1, alone=5)
    lanes.take()
    lanes.give(done=True)
    assert free(lanes) == 1
