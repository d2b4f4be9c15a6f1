"""What becomes of a node that fails: tried again as its document wants it, or taken care of by its strategy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.domain.event import EventKind
from app.domain.run import Failed, Step
from app.errors import DocumentInvalid
from app.graph.graph import load_graph
from tests.service.house import DONE, House, new_house
from tests.unit.drawing import draw, end, node, start, template, tool

BROKEN = Failed("It broke.", "Broken", outputs={"text": "half"})
DEFAULTS = [
    {"key": "text", "type": "string", "value": "a default"},
    {"key": "files", "type": "array[file]", "value": "[]"},
]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with new_house(tmp_path, "") as house:
        yield house


def painting(house: House, **more: Any) -> House:
    """A step for a worker whose failure has a branch of its own, where its strategy is that."""
    paint = tool("paint", prompt="p")
    paint["data"] |= more
    nodes = [start(), paint, end(text=["paint", "text"]), template("comfort", "{{e}}", e=["paint", "error_message"])]
    edges = ["start > paint", "paint success-branch > end"]
    if more.get("error_strategy") == "fail-branch":
        edges += ["paint fail-branch > comfort", "comfort > sorry"]
    drawn = draw([*nodes, end("sorry", sorry=["comfort", "output"])], edges)
    return House(house.settings, load_graph(drawn), house.store)


def retries(most: Any, interval_ms: Any = 0, enabled: Any = True) -> dict[str, Any]:
    return {"retry_config": {"retry_enabled": enabled, "max_retries": most, "retry_interval": interval_ms}}


def taken(house: House) -> Step:
    step = house.claim()
    assert step is not None
    return step


def test_a_fail_branch_is_taken_when_the_worker_fails(house: House) -> None:
    painter = painting(house, error_strategy="fail-branch")
    run_id = painter.submit()
    painter.complete(taken(painter), BROKEN)
    run = painter.run(run_id)
    assert (run.status, run.outputs, run.error, run.exceptions_count) == (
        "partial-succeeded",
        {"sorry": "It broke."},
        None,
        1,
    )
    paint = next(e.step for e in painter.told(run_id, EventKind.STEP_FINISHED) if e.step and e.step.node_id == "paint")
    assert (paint.status, paint.handle, paint.error) == ("exception", "fail-branch", "It broke.")
    assert paint.outputs == {"text": "half", "error_message": "It broke.", "error_type": "Broken"}
    assert paint.metadata == {"error_strategy": "fail-branch"}


def test_a_fail_branch_is_skipped_when_all_goes_well(house: House) -> None:
    painter = painting(house, error_strategy="fail-branch")
    run_id = painter.submit()
    painter.complete(taken(painter), DONE)
    assert (painter.run(run_id).status, painter.run(run_id).outputs) == ("succeeded", {"text": ""})


def test_defaults_stand_in_for_what_failed(house: House) -> None:
    painter = painting(house, error_strategy="default-value", default_value=DEFAULTS)
    run_id = painter.submit()
    painter.complete(taken(painter), BROKEN)
    run = painter.run(run_id)
    assert (run.status, run.outputs) == ("partial-succeeded", {"text": "a default"})


def test_without_a_strategy_the_run_fails(house: House) -> None:
    painter = painting(house)
    run_id = painter.submit()
    painter.complete(taken(painter), BROKEN)
    assert (painter.run(run_id).status, painter.run(run_id).error) == ("failed", "It broke.")


def test_a_node_that_computes_has_its_strategy_too(house: House) -> None:
    broken = template("t", "{{ 1 / 0 }}")
    broken["data"] |= {"error_strategy": "default-value", "default_value": [{"key": "output", "value": "none"}]}
    drawn = draw([start(), broken, end(out=["t", "output"])], ["start > t", "t > end"])
    inline = House(house.settings, load_graph(drawn), house.store)
    run = inline.run(inline.submit())
    assert (run.status, run.outputs) == ("partial-succeeded", {"out": "none"})


def test_a_fail_branch_that_leads_nowhere_ends_the_run(house: House) -> None:
    paint = tool("paint", prompt="p")
    paint["data"]["error_strategy"] = "fail-branch"
    drawn = draw([start(), paint, end(text=["paint", "text"])], ["start > paint", "paint > end"])
    painter = House(house.settings, load_graph(drawn), house.store)
    run_id = painter.submit()
    painter.complete(taken(painter), BROKEN)
    assert (painter.run(run_id).status, painter.run(run_id).outputs) == ("partial-succeeded", {})


def test_a_failure_is_tried_again_as_often_as_the_document_says(house: House) -> None:
    painter = painting(house, **retries("2", "0"))
    run_id = painter.submit()
    painter.complete(taken(painter), BROKEN)
    painter.complete(taken(painter), BROKEN)
    painter.complete(taken(painter), DONE)
    run = painter.run(run_id)
    assert (run.status, run.exceptions_count, run.total_steps) == ("succeeded", 0, 5)  # as in Dify each retry counts
    told = [event.payload or {} for event in painter.told(run_id, EventKind.STEP_RETRIED)]
    assert [(each["retry_index"], each["error"]) for each in told] == [(1, "It broke."), (2, "It broke.")]


def test_after_the_last_retry_the_strategy_has_its_turn(house: House) -> None:
    painter = painting(house, error_strategy="fail-branch", **retries(1))
    run_id = painter.submit()
    painter.complete(taken(painter), BROKEN)
    painter.complete(taken(painter), BROKEN)
    assert painter.run(run_id).outputs == {"sorry": "It broke."}


def test_a_retry_waits_for_its_interval(house: House) -> None:
    painter = painting(house, **retries(1, 3_600_000))
    painter.submit()
    painter.complete(taken(painter), BROKEN)
    assert painter.claim() is None


@pytest.mark.parametrize("policy", [retries(3, enabled=False), retries(0), {"retry_config": None}])
def test_a_retry_that_is_off_is_none(house: House, policy: dict[str, Any]) -> None:
    painter = painting(house, **policy)
    run_id = painter.submit()
    painter.complete(taken(painter), BROKEN)
    assert painter.run(run_id).status == "failed"


def test_wanted_retries_are_no_lost_attempts_and_lost_ones_no_retries(house: House) -> None:
    painter = painting(house, **retries(2))
    run_id = painter.submit()
    for lost in (False, True, False, True):  # three lost attempts would be too many
        step = taken(painter)
        painter.give_back(step) if lost else painter.complete(step, BROKEN)
    painter.complete(taken(painter), DONE)
    assert painter.run(run_id).status == "succeeded"


def test_what_is_lost_too_often_has_its_strategy_too(house: House) -> None:
    painter = painting(house, error_strategy="fail-branch", **retries(5))
    run_id = painter.submit()
    for _ in range(3):
        painter.give_back(taken(painter))
    assert painter.run(run_id).outputs == {"sorry": "The worker was lost. (3 attempts)"}


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"key": "n", "type": "number", "value": "many"}, "default value 'n': Cannot convert to number: many"),
        ({"key": "o", "type": "object", "value": "{"}, "default value 'o': Invalid JSON format for value: {"),
        ({"key": "o", "type": "object", "value": "[]"}, "default value 'o': Value must be dict type for []"),
        ({"key": "a", "type": "array[string]", "value": "[1]"}, "default value 'a': All elements must be str for [1]"),
    ],
)
def test_a_default_of_the_wrong_type_is_a_problem_of_the_document(entry: dict[str, Any], problem: str) -> None:
    broken = node("t", "template-transform", template="", error_strategy="default-value", default_value=[entry])
    with pytest.raises(DocumentInvalid) as refusal:
        load_graph(draw([start(), broken], ["start > t"]))
    assert f"node 't': {problem}" in [str(each) for each in refusal.value.problems]
