"""What is inside a container, as documents write it down in different ways."""

import pytest
from drawing import condition, draw, end, inside, iteration, loop, node, start, template

from app.errors import DocumentInvalid
from app.graph.graph import load_graph

ITEMS = ["start", "items"]


def each(*nodes, output=("a", "output"), **more):
    return inside(iteration("each", ITEMS, list(output), **more), *nodes)


def loaded(*nodes, edges=()):
    return load_graph(draw([start(), *nodes], ["start > each", *edges]))


def test_a_container_has_a_body_of_its_own():
    graph = loaded(*each(template("a"), template("b")), edges=["eachstart > a", "a > b"])
    assert list(graph.nodes) == ["start", "each"]
    assert (list(graph.bodies["each"].nodes), graph.bodies["each"].mark) == (["eachstart", "a", "b"], "eachstart")
    assert graph.node("b").id == "b"
    assert graph.warnings == ()


def test_older_documents_begin_with_a_node_of_the_iteration():
    container, _, first, second = each(template("a"), template("b", "", a=["a", "output"]))
    container["data"]["start_node_id"] = "a"
    body = loaded(container, first, second, edges=["a > b"]).bodies["each"]
    assert (list(body.nodes), body.mark) == (["a", "b"], None)


def test_nodes_that_only_name_their_parent_are_inside_too():
    nodes = each(template("a"))
    for inner in nodes[1:]:
        del inner["data"]["iteration_id"]
    assert "a" in loaded(*nodes, edges=["eachstart > a"]).bodies["each"].nodes


def test_a_node_in_two_containers_is_in_the_inner_one():
    inner = inside(loop("again", 2), template("a"))
    nodes = each(*inner, output=("again", "loop_round"))
    for deep in inner[1:]:
        deep["data"] |= {"iteration_id": "each", "loop_id": "again"}
    graph = loaded(*nodes, edges=["eachstart > again", "againstart > a"])
    assert list(graph.bodies["each"].nodes) == ["eachstart", "again"]
    assert list(graph.bodies["again"].nodes) == ["againstart", "a"]


def test_inner_nodes_read_their_round_and_whatever_came_before_the_container():
    a = template("a", "", item=["each", "item"], first=["before", "output"])
    graph = load_graph(
        draw([start(), template("before"), *each(a)], ["start > before", "before > each", "eachstart > a"])
    )
    assert graph.warnings == ()


@pytest.mark.parametrize(
    ("nodes", "edges", "warning"),
    [
        (
            each(template("a")),
            ["eachstart > a", "a > out"],
            "node 'a': an edge to 'out' goes into or out of a container",
        ),
        (each(template("a")), [], "node 'a': can't be reached from start node 'eachstart'"),
        (each(), [], "node 'each': it has no nodes inside"),
        (each(template("a"), output=("out", "x")), ["eachstart > a"], "node 'each': 'out.x' reads node 'out'"),
        (
            inside(loop("each", 2, [condition(["out", "x"], "is", "1")]), template("a")),
            ["eachstart > a"],
            "node 'each': 'out.x' reads node 'out', which does not come before it",
        ),
        (each(template("a")), ["eachstart > a", "start > out"], "node 'out': 'a.output' reads node 'a'"),
    ],
)
def test_what_is_odd_is_told_and_runs(nodes, edges, warning):
    reader = end("out", a=["a", "output"]) if "start > out" in edges else end("out")
    graph = loaded(*nodes, reader, edges=[*edges, "each > out"])
    assert [line for line in graph.warnings if line.startswith(warning)]


@pytest.mark.parametrize(
    ("nodes", "problem"),
    [
        (each(template("a"), parallel_nums=0, is_parallel=True), "node 'each': parallel_nums must be a number"),
        (each(template("a"), error_handle_mode="shrug"), "node 'each': error_handle_mode 'shrug' is not known"),
        (inside(loop("each", 0), template("a")), "node 'each': loop_count must be a number from 1 on, got 0"),
        ([node("each", "iteration", iterator_selector="start")], "node 'each': iterator_selector needs a selector"),
        (
            inside(
                node("each", "loop", loop_count=1, loop_variables=[{"label": "n", "var_type": "number", "value": "x"}])
            ),
            "node 'each': Invalid value for loop variable n: 'x' is no number",
        ),
    ],
)
def test_what_can_t_be_run_is_refused(nodes, problem):
    with pytest.raises(DocumentInvalid) as refusal:
        loaded(*nodes, edges=["eachstart > a"] if len(nodes) > 2 else [])
    assert [line for line in map(str, refusal.value.problems) if line.startswith(problem)]


def test_a_container_inside_itself_is_refused():
    first = node("each", "iteration", iterator_selector=ITEMS, iteration_id="other")
    second = node("other", "iteration", iterator_selector=ITEMS, iteration_id="each")
    with pytest.raises(DocumentInvalid) as refusal:
        loaded(first, second)
    assert "which is inside itself" in str(refusal.value.problems[0])


def test_a_cycle_inside_a_container_is_refused():
    with pytest.raises(DocumentInvalid) as refusal:
        loaded(*each(template("a"), template("b")), edges=["eachstart > a", "a > b", "b > a"])
    assert "the edges form a cycle: a → b → a" in str(refusal.value.problems[0])
