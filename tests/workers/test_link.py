"""What a worker hears over its pipe."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from threading import Thread

import msgspec
import pytest

from app.domain.run import Step, StepStatus
from app.queue.doorbell import Halt
from tests.clusters import until
from workers.link import WorkerSide, send

FIRST = Step("a-step", "a-run", "a-node", "tool", "Title", 1, StepStatus.RUNNING, attempt=1)
SECOND = msgspec.structs.replace(FIRST, attempt=2)


@pytest.fixture
def link() -> Iterator[tuple[WorkerSide, Connection]]:
    ours, theirs = Pipe()
    side = WorkerSide(theirs)
    thread = Thread(target=side.listen)
    thread.start()
    yield side, ours
    ours.close()
    thread.join()


def test_a_late_word_on_a_lost_attempt_spares_the_next_one(link: tuple[WorkerSide, Connection]) -> None:
    side, parent = link
    side.finished(FIRST)
    send(parent, Halt((FIRST.id,), attempt=1))
    until("halted", lambda: side.is_halted(FIRST))
    assert not side.is_halted(SECOND)
    side.finished(SECOND)


def test_a_stopped_step_is_halted_whatever_its_attempt(link: tuple[WorkerSide, Connection]) -> None:
    side, parent = link
    send(parent, Halt((FIRST.id,)))
    until("halted", lambda: side.is_halted(FIRST) and side.is_halted(SECOND))
    side.finished(SECOND)
    assert not side.is_halted(SECOND)
