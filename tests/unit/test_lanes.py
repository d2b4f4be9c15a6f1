"""How many steps are done side by side, and beside how many others those that were lost."""

from __future__ import annotations

import threading

import pytest

from app.domain.run import GIVEN_BACK, SERVER_STOPPED, WORKER_LOST, Step, StepStatus
from workers.lanes import Lanes


def step(attempt: int = 1, error_type: str | None = None) -> Step:
    return Step("s", "r", "n", "tool", "", 1, StepStatus.RUNNING, attempt=attempt, error_type=error_type)


def most(lanes: Lanes, *others: Step) -> int:
    """How many more are done beside these."""
    count = 0
    for each in others:
        lanes.enter(each)
    while lanes._most() > len(lanes._at_work):
        lanes.enter(step())
        count += 1
    return count


def test_there_are_as_many_lanes_as_asked_for() -> None:
    assert [most(Lanes(count, 3)) for count in (1, 3, 16)] == [1, 3, 16]


@pytest.mark.parametrize(("lanes", "few"), [(16, 4), (8, 2), (2, 1), (1, 1)])
def test_a_step_that_was_lost_is_done_beside_a_few(lanes: int, few: int) -> None:
    assert most(Lanes(lanes, 3), step(2, WORKER_LOST)) == few - 1


@pytest.mark.parametrize("reason", GIVEN_BACK)
def test_the_last_try_of_one_that_was_given_back_is_done_alone(reason: str) -> None:
    assert most(Lanes(16, 3), step(3, reason)) == 0


def test_what_a_stopped_server_gave_back_and_what_its_document_tries_again_need_no_care() -> None:
    assert most(Lanes(16, 3), step(2, SERVER_STOPPED), step(3, "HTTPResponseCodeError")) == 14


def test_room_is_waited_for_and_who_claims_hears_how_many_are_at_work() -> None:
    lanes, lost, found = Lanes(4, 3), step(3, WORKER_LOST), []
    assert lanes.wait_for_room() == 0
    lanes.enter(lost)
    waits = threading.Thread(target=lambda: found.append(lanes.wait_for_room()))
    waits.start()
    assert not found
    lanes.leave(lost)
    waits.join(10)
    assert found == [0]
