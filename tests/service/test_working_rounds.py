"""Iterations and loops whose nodes need workers: each inner step has a row of its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.domain.event import EventKind
from app.domain.run import Failed, Run, RunStatus, Step, Succeeded
from app.errors import FormExpired
from app.graph.graph import load_graph
from tests.service.house import DONE, House, new_house
from tests.unit.drawing import condition, draw, end, inside, iteration, loop, node, start, template, tool

ITEMS = ["start", "items"]
BROKEN = Failed("It broke.", "Broken")

Drawn = Callable[..., House]


@pytest.fixture
def drawn(tmp_path: Path, database_url: str) -> Iterator[Drawn]:
    """Makes houses of one database with a drawn workflow each."""
    with new_house(tmp_path, database_url) as house:
        yield lambda nodes, edges: House(house.settings, load_graph(draw(nodes, edges)), house.store)


def painting(**more: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """Paints each item; its text is what the worker makes of it."""
    each = inside(iteration("each", ITEMS, ["paint", "text"], **more), tool("paint", prompt="{{#each.item#}}"))
    return [start(), *each, end(out=["each", "output"])], ["start > each", "eachstart > paint", "each > end"]


def ready(house: House) -> list[Step]:
    """Takes whatever is ready."""
    return list(iter(house.claim, None))


def paint(house: House, step: Step) -> None:
    house.complete(step, Succeeded({"text": f"painted {(step.inputs or {})['prompt']}"}))


def worked_off(house: House, run_id: str, chance: random.Random | None = None) -> Run:
    """The run after its workers have done all there is, in any order."""
    held = ready(house)
    while held:
        paint(house, held.pop(chance.randrange(len(held)) if chance else 0))
        held += ready(house)
    return house.run(run_id)


def test_rounds_wait_for_each_other_and_each_has_a_step_of_its_own(drawn: Drawn) -> None:
    house = drawn(*painting())
    run_id = house.submit(inputs={"items": ["a", "b"]})
    (first,) = ready(house)
    assert (first.scope, first.metadata) == ((("each", 0),), {"iteration_id": "each", "iteration_index": 0})
    paint(house, first)
    (second,) = ready(house)
    assert (second.node_id, second.scope, second.index) == ("paint", (("each", 1),), 4)
    paint(house, second)
    run = house.run(run_id)
    assert (run.status, run.outputs, run.total_steps) == ("succeeded", {"out": ["painted a", "painted b"]}, 3)


def test_parallel_rounds_are_as_many_as_asked_for_and_keep_their_order(drawn: Drawn) -> None:
    house = drawn(*painting(is_parallel=True, parallel_nums="2"))
    run_id = house.submit(inputs={"items": ["a", "b", "c"]})
    first, second = ready(house)
    paint(house, second)
    (third,) = ready(house)
    paint(house, third)
    assert house.run(run_id).status == RunStatus.RUNNING
    paint(house, first)
    assert house.run(run_id).outputs == {"out": ["painted a", "painted b", "painted c"]}


def test_a_killed_worker_repeats_one_inner_step(drawn: Drawn) -> None:
    house = drawn(*painting())
    run_id = house.submit(inputs={"items": ["a", "b"]})
    paint(house, ready(house)[0])
    (lost,) = ready(house)
    house.give_back(lost)
    (again,) = ready(house)
    assert (again.id, again.attempt) == (lost.id, 2)
    paint(house, again)
    assert house.run(run_id).outputs == {"out": ["painted a", "painted b"]}


@pytest.mark.parametrize(
    ("mode", "outputs"),
    [("continue-on-error", ["painted a", None, "painted c"]), ("remove-abnormal-output", ["painted a", "painted c"])],
)
@pytest.mark.parametrize("is_parallel", [False, True])
def test_a_failed_round_need_not_be_the_iterations_failure(
    drawn: Drawn, mode: str, outputs: list[Any], is_parallel: bool
) -> None:
    house = drawn(*painting(error_handle_mode=mode, is_parallel=is_parallel))
    run_id = house.submit(inputs={"items": ["a", "b", "c"]})
    held = ready(house)
    while held:
        step = held.pop(0)
        house.complete(step, BROKEN) if step.scope[0][1] == 1 else paint(house, step)
        held += ready(house)
    assert (house.run(run_id).status, house.run(run_id).outputs) == ("succeeded", {"out": outputs})


def test_a_failed_round_ends_the_iteration_and_the_run_with_its_error(drawn: Drawn) -> None:
    house = drawn(*painting())
    run_id = house.submit(inputs={"items": ["a", "b"]})
    house.complete(ready(house)[0], BROKEN)
    run = house.run(run_id)
    assert (run.status, run.error, run.error_code, ready(house)) == ("failed", "It broke.", "broken", [])
    ends = [event.step for event in house.told(run_id, EventKind.STEP_FINISHED)]
    assert [(step.node_id, step.status) for step in ends if step] == [
        ("start", "succeeded"),
        ("paint", "failed"),
        ("each", "failed"),
    ]


def test_what_a_failed_iteration_still_did_is_halted_while_its_run_goes_on(drawn: Drawn) -> None:
    each = inside(
        iteration("each", ITEMS, ["paint", "text"], is_parallel=True, error_strategy="fail-branch"),
        tool("paint", prompt="{{#each.item#}}"),
    )
    nodes = [start(), *each, tool("comfort", prompt="{{#each.error_message#}}"), end(out=["comfort", "text"])]
    house = drawn(nodes, ["start > each", "eachstart > paint", "each fail-branch > comfort", "comfort > end"])
    run_id = house.submit(inputs={"items": ["a", "b", "c"]})
    first, second, third = ready(house)
    notice = house.complete(second, BROKEN)
    assert notice is not None
    assert set(notice.halts) == {first.id, third.id}
    assert house.complete(first) is None
    run = worked_off(house, run_id)
    assert (run.status, run.outputs) == ("partial-succeeded", {"out": "painted It broke."})
    assert run.exceptions_count == 1


def test_a_parallel_branch_of_a_failed_round_is_halted_too(drawn: Drawn) -> None:
    each = inside(
        iteration("each", ITEMS, ["one", "text"], error_handle_mode="continue-on-error"),
        tool("one", prompt="one"),
        tool("two", prompt="two"),
    )
    house = drawn(
        [start(), *each, end(out=["each", "output"])],
        ["start > each", "eachstart > one", "eachstart > two", "each > end"],
    )
    run_id = house.submit(inputs={"items": ["a"]})
    one, two = ready(house)
    notice = house.complete(one, BROKEN)
    assert notice is not None
    assert house.complete(two) is None
    assert (house.run(run_id).status, house.run(run_id).outputs) == ("succeeded", {"out": [None]})


def test_rounds_in_rounds_come_to_the_same_in_any_order(drawn: Drawn) -> None:
    paint_each = tool("paint", prompt="{{#inner.item#}}")
    inner = inside(iteration("inner", ["outer", "item"], ["paint", "text"], is_parallel=True), paint_each)
    outer = inside(iteration("outer", ITEMS, ["inner", "output"], is_parallel=True, flatten_output=False), *inner)
    house = drawn(
        [start(), *outer, end(out=["outer", "output"])],
        ["start > outer", "outerstart > inner", "innerstart > paint", "outer > end"],
    )
    items = [["a", "b"], [], ["c"], ["d", "e", "f"]]
    for seed in range(5):
        run = worked_off(house, house.submit(inputs={"items": items}), random.Random(seed))
        assert run.outputs == {"out": [[f"painted {item}" for item in each] for each in items]}


def test_a_loop_goes_on_until_its_condition_holds(drawn: Drawn) -> None:
    done = [condition(["paint", "text"], "is", "enough")]
    nodes = [
        start(),
        *inside(loop("again", 5, done, name="n"), tool("paint", prompt="p")),
        end(n=["again", "loop_round"]),
    ]
    house = drawn(nodes, ["start > again", "againstart > paint", "again > end"])
    run_id = house.submit()
    for text in ("no", "still not", "enough"):
        (step,) = ready(house)
        house.complete(step, Succeeded({"text": text}))
    assert house.run(run_id).outputs == {"n": 3}
    (loop_end,) = [e.step for e in house.told(run_id, EventKind.STEP_FINISHED) if e.step and e.step.kind == "loop"]
    assert (loop_end.metadata or {})["completed_reason"] == "loop_break"


def test_a_loop_end_makes_its_round_the_last_one(drawn: Drawn) -> None:
    inner = [tool("paint", prompt="p"), node("stop", "loop-end")]
    house = drawn(
        [start(), *inside(loop("again", 5), *inner), end(n=["again", "loop_round"])],
        ["start > again", "againstart > paint", "paint > stop", "again > end"],
    )
    run_id = house.submit()
    assert worked_off(house, run_id).outputs == {"n": 1}


def test_a_run_that_goes_round_too_often_ends_with_dify_s_words(drawn: Drawn) -> None:
    each = inside(iteration("each", ITEMS, ["t", "output"]), template("t", "x"))
    house = drawn([start(), *each, end(out=["each", "output"])], ["start > each", "eachstart > t", "each > end"])
    run = house.run(house.submit(inputs={"items": [0] * 600}))
    assert (run.status, run.error) == ("failed", "Maximum execution steps exceeded: 501 > 500")


def test_empty_rounds_without_end_are_ended(drawn: Drawn) -> None:
    nodes = [start(), *inside(iteration("each", ITEMS, ["each", "item"])), end(out=["each", "output"])]
    house = drawn(nodes, ["start > each", "each > end"])
    assert house.run(house.submit(inputs={"items": [0] * 400})).outputs == {"out": [0] * 400}
    assert house.run(house.submit(inputs={"items": [0] * 100_000})).error_code == "too_many_steps"


def test_a_stop_ends_every_round(drawn: Drawn) -> None:
    house = drawn(*painting(is_parallel=True))
    run_id = house.submit(inputs={"items": ["a", "b"]})
    held = ready(house)
    notice = house.stop(run_id)
    assert notice is not None
    assert set(notice.halts) == {step.id for step in held}
    assert [house.complete(step, DONE) for step in held] == [None, None]


def counting(node_id: str, loop_id: str) -> dict[str, Any]:
    """Adds one to the loop's `n`."""
    item = {"variable_selector": [loop_id, "n"], "operation": "+=", "input_type": "constant", "value": 1}
    return node(node_id, "assigner", version="2", items=[item])


def test_what_is_assigned_in_a_round_is_there_in_the_next(drawn: Drawn) -> None:
    inner = [counting("count", "again"), tool("paint", prompt="{{#again.n#}}"), counting("once more", "again")]
    enough = [condition(["again", "n"], "≥", "3")]
    house = drawn(
        [
            start(),
            *inside(loop("again", 9, enough, n=0), *inner),
            end(n=["again", "n"], rounds=["again", "loop_round"]),
        ],
        ["start > again", "againstart > count", "count > paint", "paint > once more", "again > end"],
    )
    run_id, prompts = house.submit(), []
    while held := ready(house):
        prompts += [(step.inputs or {})["prompt"] for step in held]
        paint(house, held[0])
    assert prompts == ["1", "3"]
    assert house.run(run_id).outputs == {"n": 4, "rounds": 2}


def test_an_inner_loop_may_count_for_the_outer_one(drawn: Drawn) -> None:
    inner = inside(loop("inner", 3), counting("count", "outer"), tool("paint", prompt="{{#outer.n#}}"))
    house = drawn(
        [start(), *inside(loop("outer", 2, n=0), *inner), end(n=["outer", "n"])],
        ["start > outer", "outerstart > inner", "innerstart > count", "count > paint", "outer > end"],
    )
    assert worked_off(house, house.submit()).outputs == {"n": 6}


def test_an_iteration_keeps_what_it_assigns_to_itself(drawn: Drawn) -> None:
    each = inside(
        iteration("each", ITEMS, ["paint", "text"]), counting("count", "outer"), tool("paint", prompt="{{#outer.n#}}")
    )
    house = drawn(
        [start(), *inside(loop("outer", 1, n=0), *each), end(n=["outer", "n"])],
        ["start > outer", "outerstart > each", "eachstart > count", "count > paint", "outer > end"],
    )
    run_id = house.submit(inputs={"items": ["a", "b"]})
    assert worked_off(house, run_id).outputs == {"n": 0}


def setting(name: str, operation: str, value: Any) -> dict[str, Any]:
    input_type = "variable" if isinstance(value, list) else "constant"
    target = {"variable_selector": ["again", name], "input_type": input_type}
    return target | {"operation": operation, "value": value}


def test_what_an_assigner_sets_is_there_in_the_next_round_whoever_moves_the_run_on(drawn: Drawn) -> None:
    items = [setting("n", "+=", 1), setting("seen", "over-write", ["paint", "text"])]
    rounds = inside(
        loop("again", 9, [condition(["again", "n"], "≥", "3")], n=0, seen="nothing"),
        tool("paint", prompt="{{#again.n#}} after {{#again.seen#}}"),
        node("note", "assigner", version="2", items=items),
    )
    nodes = [start(), *rounds, end(n=["again", "n"], seen=["again", "seen"])]
    house = drawn(nodes, ["start > again", "againstart > paint", "paint > note", "again > end"])
    run = worked_off(house, house.submit(inputs={}))
    assert run.outputs == {"n": 3, "seen": "painted 2 after painted 1 after painted 0 after nothing"}


def test_people_are_asked_round_by_round(drawn: Drawn) -> None:
    ask = node("ask", "human-input", form_content="{{#each.item#}}?", user_actions=[{"id": "yes"}, {"id": "no"}])
    each = inside(iteration("each", ITEMS, ["ask", "__action_id"]), ask)
    edges = ["start > each", "eachstart > ask", "ask yes > painted", "ask no > painted", "each > end"]
    house = drawn([start(), *each, template("painted"), end(out=["each", "output"])], edges)
    run_id = house.submit(inputs={"items": ["a", "b"]})
    for action in ("yes", "no"):
        assert house.run(run_id).status == RunStatus.PAUSED
        form = house.told(run_id, EventKind.FORM_REQUIRED)[-1].payload or {}
        house.store.commit_blocking(
            lambda tx, form=form, action=action: house.advance.fill_form(tx, form["form_token"], {}, action, "u")
        )
    contents = [(event.payload or {})["form_content"] for event in house.told(run_id, EventKind.FORM_REQUIRED)]
    assert contents == ["a?", "b?"]
    assert house.run(run_id).outputs == {"out": ["yes", "no"]}


def test_a_form_of_a_round_that_has_ended_without_it_waits_no_more(drawn: Drawn) -> None:
    ask = node("ask", "human-input", form_content="?", user_actions=[{"id": "yes"}])
    each = inside(
        iteration("each", ITEMS, ["ask", "__action_id"], error_handle_mode="continue-on-error"),
        ask,
        tool("paint", prompt="p"),
    )
    edges = ["start > each", "eachstart > ask", "eachstart > paint", "each > wait", "wait > end"]
    house = drawn([start(), *each, tool("wait", prompt="p"), end(out=["each", "output"])], edges)
    run_id = house.submit(inputs={"items": ["a"]})
    house.complete(ready(house)[0], BROKEN)
    form = house.told(run_id, EventKind.FORM_REQUIRED)[0].payload or {}
    with pytest.raises(FormExpired):
        house.store.commit_blocking(lambda tx: house.advance.fill_form(tx, form["form_token"], {}, "yes", "u"))
    assert worked_off(house, run_id).outputs == {"out": [None]}
