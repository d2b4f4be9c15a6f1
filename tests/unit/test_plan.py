"""The engine, on graphs that people draw and on graphs that chance draws."""

import random

import pytest
from drawing import branch, draw, end, start, template
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.run import RunStatus, StepStatus
from app.graph.graph import load_graph
from app.graph.plan import predecessor, ready_nodes
from tests.unit.states import Plan, StepState, plan

DIAMOND = load_graph(
    draw(
        [start(), branch("choose", yes=[]), template("a"), template("b"), end()],
        ["start > choose", "choose yes > a", "choose false > b", "a > end", "b > end"],
    )
)
FAN = load_graph(draw([start(), template("a"), template("b"), end()], ["start > a", "start > b", "a > end", "b > end"]))


def passed(handle=None):
    return StepState(StepStatus.SUCCEEDED, handle)


RUNNING = StepState(StepStatus.RUNNING)


def test_a_run_begins_with_its_start_node():
    assert plan(FAN, {}) == Plan(start=("start",))


def test_a_fan_starts_all_its_branches_and_none_twice():
    assert plan(FAN, {"start": passed()}).start == ("a", "b")
    assert plan(FAN, {"start": passed(), "a": RUNNING}).start == ("b",)


def test_a_join_waits_for_all_its_parents():
    assert plan(FAN, {"start": passed(), "a": passed(), "b": RUNNING}).start == ()
    assert plan(FAN, {"start": passed(), "a": passed(), "b": passed()}).start == ("end",)


def test_a_branch_that_is_not_taken_is_skipped_and_its_join_goes_on():
    states = {"start": passed(), "choose": passed("yes")}
    assert plan(DIAMOND, states) == Plan(start=("a",), skipped=frozenset({"b"}))
    assert plan(DIAMOND, {**states, "a": passed()}).start == ("end",)
    assert predecessor(DIAMOND, {**states, "a": passed()}, "end") == "a"


def test_skipping_goes_on_to_everything_behind():
    graph = load_graph(
        draw(
            [start(), branch("choose", yes=[]), template("a"), end("far"), end("near")],
            ["start > choose", "choose yes > a", "a > far", "choose false > near"],
        )
    )
    states = {"start": passed(), "choose": passed("false")}
    assert plan(graph, states) == Plan(start=("near",), skipped=frozenset({"a", "far"}))
    assert plan(graph, {**states, "near": passed()}).ended == RunStatus.SUCCEEDED


def test_a_branch_that_leads_nowhere_ends_the_run():
    graph = load_graph(draw([start(), branch("choose", yes=[]), end()], ["start > choose", "choose yes > end"]))
    assert plan(graph, {"start": passed(), "choose": passed("false")}).ended == RunStatus.SUCCEEDED


@pytest.mark.parametrize(
    ("status", "ended"), [(StepStatus.FAILED, RunStatus.FAILED), (StepStatus.STOPPED, RunStatus.STOPPED)]
)
def test_a_step_that_fails_or_is_stopped_ends_the_run_at_once(status, ended):
    decided = plan(FAN, {"start": passed(), "a": StepState(status)})
    assert (decided.start, decided.ended) == ((), ended)


def test_failure_wins_over_stop():
    states = {"start": passed(), "a": StepState(StepStatus.STOPPED), "b": StepState(StepStatus.FAILED)}
    assert plan(FAN, states).ended == RunStatus.FAILED


def test_an_exception_that_was_taken_care_of_makes_the_success_partial():
    states = {node_id: passed() for node_id in FAN.nodes} | {"a": StepState(StepStatus.EXCEPTION)}
    assert plan(FAN, states).ended == RunStatus.PARTIAL_SUCCEEDED


def test_the_predecessor_is_the_first_parent_that_was_taken():
    states = {"start": passed(), "a": passed(), "b": passed()}
    assert predecessor(FAN, states, "end") == "a"
    assert predecessor(FAN, states, "start") is None


@st.composite
def graphs(choose):
    """A start node, then up to 12 nodes: templates and branches, each behind one to three before it."""
    nodes, edges = [start()], []
    for number in range(choose(st.integers(1, 12))):
        name = f"n{number}"
        for parent in choose(
            st.lists(st.sampled_from(nodes), min_size=1, max_size=3, unique_by=lambda node: node["id"])
        ):
            handle = choose(st.sampled_from([" yes", " false"])) if parent["data"]["type"] == "if-else" else ""
            edges.append(f"{parent['id']}{handle} > {name}")
        nodes.append(branch(name, yes=[]) if choose(st.booleans()) else template(name))
    return load_graph(draw(nodes, edges))


def drive(graph, seed):
    """Run to the end, completing running steps in a random order. Gives the last states, what was started, the end."""
    chance, states, started = random.Random(seed), {}, []
    while (due := plan(graph, states)).ended is None:
        for node_id in due.start:
            parents = {edge.source for edge in graph.incoming[node_id]}
            assert all(states[parent].status == StepStatus.SUCCEEDED for parent in parents - due.skipped)
            states[node_id] = RUNNING
            started.append(node_id)
        finished = chance.choice([node_id for node_id, state in states.items() if state == RUNNING])
        handles = graph.nodes[finished].work.handles
        states[finished] = passed(chance.choice(sorted(handles)) if handles else None)
    return states, started, due


@settings(deadline=None)
@given(graphs(), st.integers(0, 2**32))
def test_every_node_is_started_once_or_skipped_and_the_run_ends(graph, seed):
    _, started, last = drive(graph, seed)
    assert last.ended == RunStatus.SUCCEEDED
    assert len(started) == len(set(started))
    assert set(started) | last.skipped == set(graph.nodes)
    assert not set(started) & last.skipped


@settings(deadline=None)
@given(graphs(), st.integers(0, 2**32))
def test_what_is_started_was_reached_by_an_edge_that_was_taken(graph, seed):
    states, started, _ = drive(graph, seed)
    for node_id in started[1:]:
        parent = predecessor(graph, states, node_id)
        handles = {edge.handle for edge in graph.incoming[node_id] if edge.source == parent}
        assert (states[parent].handle or "source") in handles


@settings(deadline=None)
@given(graphs(), st.integers(0, 2**32))
def test_what_is_skipped_was_reached_by_none(graph, seed):
    states, _, last = drive(graph, seed)
    assert all(predecessor(graph, states, node_id) is None for node_id in last.skipped)


@settings(deadline=None)
@given(graphs(), st.integers(0, 2**32))
def test_the_order_of_completion_changes_nothing(graph, seed):
    outcomes, started, last = drive(graph, seed)
    states = {}
    while (due := plan(graph, states)).ended is None:
        assert due == plan(graph, dict(reversed(states.items())))
        states |= {node_id: outcomes[node_id] for node_id in due.start}
    assert (set(states), due) == (set(started), last)


@settings(deadline=None)
@given(graphs(), st.randoms(use_true_random=False))
def test_one_pass_starts_what_asking_again_and_again_would(graph, random):
    """A caller that runs each node at once gets the whole run from one pass."""
    states = {}
    for node_id in ready_nodes(graph, states):
        handles = sorted({edge.handle for edges in graph.incoming.values() for edge in edges if edge.source == node_id})
        states[node_id] = passed(random.choice(handles) if handles else None)
    seen = plan(graph, states)
    assert (seen.start, seen.ended) == ((), RunStatus.SUCCEEDED)
    assert set(states) | seen.skipped == set(graph.nodes)
