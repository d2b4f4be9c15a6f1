"""What is told of a run beyond Dify's fields: from its facts and rows, in a bounded number of statements."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app import ids
from app.domain.artifact import Artifact
from app.domain.detail import Detail, Part, StepDetail
from app.domain.event import Tick
from app.domain.run import Step, StepStatus, Timings
from app.graph.graph import load_graph
from app.store import details, steps
from tests.servers import ROOT
from tests.service.house import DONE, House, new_house

ALL = frozenset(Part)
MOST_STATEMENTS = 5


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[House]:
    with new_house(tmp_path, database_url) as house:
        yield house


def told(house: House, run_id: str, *parts: Part, app_id: str = "app") -> Detail:
    asked = parts or ALL
    found = house.store.read_blocking(lambda tx: details.find_detail(tx, app_id, run_id, asked), of_one_moment=True)
    assert found is not None
    return found


def paint_of(detail: Detail) -> StepDetail:
    (paint,) = (each for each in detail.steps if each.step.node_id == "paint")
    return paint


def held(house: House, worker: str = "w1") -> Step:
    step = house.claim(worker)
    assert step is not None
    return step


def renew(house: House, worker: str, tick: Tick | None) -> None:
    house.store.commit_blocking(lambda tx: steps.renew_leases(tx, worker, 60.0, tick))


def test_a_step_that_waits_says_for_how_long(house: House) -> None:
    detail = told(house, house.submit())
    paint = paint_of(detail)
    assert [each.step.node_id for each in detail.steps] == ["start", "paint"]
    assert (paint.step.status, paint.attempts, paint.started_at) == (StepStatus.READY, 0, None)
    assert paint.work is not None
    assert paint.times.queued_s == pytest.approx(detail.now_s - (paint.work.ready_at or 0))
    assert (paint.times.load_s, paint.times.run_s, paint.times.upload_s) == (None, None, None)
    progress = detail.progress
    assert progress is not None
    assert (progress.steps_done, progress.steps_known, progress.node_id, progress.step) == (1, 2, "paint", None)


def test_the_last_tick_is_stored_with_the_renewal_for_the_step_that_is_held(house: House) -> None:
    run_id, other = house.submit(), house.submit()
    step = held(house)
    assert held(house, "w2").run_id == other
    renew(house, "w1", Tick(run_id, step.id, "paint", 3, 30, 2.5))
    renew(house, "w2", Tick(run_id, step.id, "paint", 9, 30, 2.5))  # not its own
    renew(house, "w1", None)
    mine, others = told(house, run_id).progress, told(house, other).progress
    assert mine is not None
    assert (mine.node_id, mine.step, mine.steps, mine.eta_s) == ("paint", 3, 30, 2.5)
    assert others is not None
    assert others.step is None


def test_a_step_that_was_given_back_waits_anew_and_counts_its_attempts(house: House) -> None:
    run_id = house.submit()
    first = held(house)
    renew(house, "w1", Tick(run_id, first.id, "paint", 20, 30, 1.0))
    house.give_back(first)
    waiting = told(house, run_id)
    paint = paint_of(waiting)
    assert (paint.step.status, paint.attempts, paint.started_at) == (StepStatus.READY, 1, None)
    assert paint.step.error_type == "worker_lost"
    assert paint.times.queued_s >= 0
    second = held(house, "w2")
    paint = paint_of(again := told(house, run_id))
    assert paint.work is not None
    assert (paint.attempts, paint.work.worker_id) == (2, "w2")
    assert paint.times.queued_s == pytest.approx((paint.work.claimed_at or 0) - (paint.work.ready_at or 0))
    assert again.progress is not None
    assert again.progress.step is None  # the lost attempt's is no progress of this one
    house.complete(second)
    assert paint_of(told(house, run_id)).attempts == 2


def test_an_ended_run_tells_where_its_time_went_and_what_it_made(house: House) -> None:
    run_id = house.submit()
    step = held(house)
    made = [
        Artifact(ids.new_id(), run_id, step.id, "a" * 64, 9, "image/png", ".png", f"{n}.png", 64, 72, 2**40 + n)
        for n in range(2)
    ]
    spent = Timings(1.5, 2.25, 0.5)
    house.store.commit_blocking(lambda tx: house.advance.complete(tx, step, DONE, made, spent))
    detail = told(house, run_id)
    paint = paint_of(detail)
    assert (paint.times.load_s, paint.times.run_s, paint.times.upload_s) == (1.5, 2.25, 0.5)
    inline_s = sum(each.times.run_s or 0 for each in detail.steps if each.work is None)
    assert detail.times.load_s == 1.5
    assert detail.times.run_s == pytest.approx(2.25 + inline_s)
    assert detail.times.upload_s == 0.5
    assert detail.times.queued_s == paint.times.queued_s
    assert detail.times.total_s == pytest.approx((detail.run.finished_at or 0) - detail.run.created_at)
    assert list(detail.artifacts) == made
    assert detail.progress is None
    assert [each.step.status for each in detail.steps] == [StepStatus.SUCCEEDED] * 3


def test_a_stopped_run_leaves_no_step_that_waits_or_runs(house: House) -> None:
    waiting, running = house.submit(), house.submit()
    step = held(house)
    assert step.run_id == waiting
    for run_id in (waiting, running):
        house.stop(run_id)
        paint = paint_of(told(house, run_id))
        assert paint.step.status is StepStatus.STOPPED
        assert paint.step.finished_at is not None
    assert paint_of(told(house, running)).attempts == 0


def test_another_apps_run_is_not_there(house: House) -> None:
    run_id = house.submit()
    read = house.store.read_blocking
    assert read(lambda tx: details.find_detail(tx, "other", run_id, ALL)) is None
    assert read(lambda tx: details.find_detail(tx, "app", "nothing", ALL)) is None


def test_whatever_is_committed_meanwhile_a_detail_is_of_one_moment(house: House) -> None:
    run_id = house.submit()
    step = held(house)

    def read_slowly(tx):
        before = details.find_detail(tx, "app", run_id, ALL)
        house.complete(step)
        return before, details.find_detail(tx, "app", run_id, ALL)

    before, after = house.store.read_blocking(read_slowly, of_one_moment=True)
    assert before.run == after.run
    assert [each.step for each in before.steps] == [each.step for each in after.steps]
    assert told(house, run_id).progress is None


def test_a_run_of_inline_steps_has_run_and_never_waited(house: House) -> None:
    inline = House(house.settings, load_graph((ROOT / "workflows/echo.yml").read_text()))
    detail = told(inline, inline.submit())
    assert [each.attempts for each in detail.steps] == [1, 1, 1]
    assert detail.times.queued_s == detail.times.load_s == detail.times.upload_s == 0
    inline.store.close()


@pytest.mark.parametrize("parts", [*([part] for part in Part), list(Part)], ids="+".join)
def test_a_detail_is_five_statements_at_most(tmp_path: Path, parts: list[Part]) -> None:
    with new_house(tmp_path, "") as house:
        run_id = house.submit()
        house.complete(held(house))
        told(house, run_id)  # opens the reader's connection
        said: list[str] = []
        (session,) = house.store._opened
        session._connection.set_trace_callback(said.append)  # type: ignore[attr-defined]
        told(house, run_id, *parts)
        session._connection.set_trace_callback(None)  # type: ignore[attr-defined]
    assert (said[0], said[-1]) == ("BEGIN", "ROLLBACK")
    assert 1 <= len(said) - 2 <= MOST_STATEMENTS
