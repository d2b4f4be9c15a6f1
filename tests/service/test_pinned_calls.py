"""Apps that call other apps whose nodes need workers: the call is pinned, and outlives every worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from app.domain.run import CALLED_WORKFLOW, Failed, Step, Succeeded
from app.graph.calls import Callee
from app.graph.graph import Graph, load_graph
from app.runs.record import Library
from app.store import steps
from tests.service.house import House, new_house
from tests.unit.drawing import draw, end, field, node, start, tool

BROKEN = Failed("It broke.", "Broken")


class Painters(Library):
    """One app, which paints, and whose workflow may change."""

    def __init__(self) -> None:
        self.versions = {"first": painter("{{#start.what#}}")}

    def publish(self, prompt: str) -> None:
        self.versions["second"] = painter(prompt)

    def find(self, names: Sequence[str]) -> Callee | None:
        version = list(self.versions)[-1]
        return Callee("painter", version, self.versions[version]) if "painter" in names else None

    def graph_of(self, workflow_id: str) -> Graph:
        return self.versions[workflow_id]


def painter(prompt: str) -> Graph:
    """Its nodes have the ids that its caller's have."""
    nodes = [start(field("what")), tool("call", prompt=prompt), end(made=["call", "text"])]
    return load_graph(draw(nodes, ["start > call", "call > end"]))


def calling(what: str, **more: Any) -> dict[str, Any]:
    return node(
        "call",
        "tool",
        provider_type="workflow",
        provider_id="x",
        tool_name="painter",
        tool_parameters={"what": {"type": "mixed", "value": what}},
        **more,
    )


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with new_house(tmp_path, "") as house:
        nodes = [start(field("what")), calling("{{#start.what#}}"), end(made=["call", "made"])]
        graph = load_graph(draw(nodes, ["start > call", "call > end"]))
        yield House(house.settings, graph, house.store, Painters())


def taken(house: House) -> Step:
    step = house.claim()
    assert step is not None
    return step


def painted(step: Step) -> Succeeded:
    return Succeeded({"text": f"painted {(step.inputs or {})['prompt']}"})


def test_a_worker_is_told_whose_node_its_step_is_of(house: House) -> None:
    run_id = house.submit(inputs={"what": "a cat"})
    step = taken(house)
    found = house.store.read_blocking(lambda tx: steps.find_assignment(tx, step))
    assert found is not None
    assert found.arguments == {CALLED_WORKFLOW: "first"}
    assert (step.node_id, step.scope) == ("call", (("call", 0),))
    house.complete(step, painted(step))
    assert house.run(run_id).outputs == {"made": "painted a cat"}


def test_a_call_under_way_keeps_its_version(house: House) -> None:
    run_id = house.submit(inputs={"what": "a cat"})
    assert isinstance(house.library, Painters)
    house.library.publish("something else")
    step = taken(house)
    house.give_back(step)
    step = taken(house)
    house.complete(step, painted(step))
    assert house.run(run_id).outputs == {"made": "painted a cat"}


def test_what_fails_inside_fails_the_call_and_the_run(house: House) -> None:
    run_id = house.submit(inputs={"what": "a cat"})
    house.complete(taken(house), BROKEN)
    run = house.run(run_id)
    assert (run.status, run.error, run.error_code) == ("failed", "It broke.", "broken")


def test_a_call_has_an_error_strategy_as_any_node(house: House) -> None:
    call = calling("x", error_strategy="default-value", default_value=[{"key": "made", "value": "nothing"}])
    graph = load_graph(draw([start(), call, end(made=["call", "made"])], ["start > call", "call > end"]))
    careful = House(house.settings, graph, house.store, Painters())
    run_id = careful.submit()
    careful.complete(taken(careful), BROKEN)
    run = careful.run(run_id)
    assert (run.status, run.outputs, run.exceptions_count) == ("partial-succeeded", {"made": "nothing"}, 1)
