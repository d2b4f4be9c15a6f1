"""What differs from graphon on purpose, each shown by a case and told in docs/dify-compatibility.md by its name.

Where there is no graphon, what it says is taken from here, and the test shows our side alone.
"""

import pytest

from tests.oracle.drawn import condition, edge, node
from tests.oracle.engines import PYTHON, ROOT, atelier, graphon

START, END = node("start", "start", variables=[]), node("end", "end", outputs=[])


@pytest.fixture(scope="module")
def ask():
    """Asks graphon, where it is."""
    if not PYTHON.exists():
        yield None
        return
    with graphon() as child:
        yield lambda asked: child.run([asked])[0]


def choosing(operator, value, selector, **more):
    held = [condition(selector, operator, value)]
    return node("choose", "if-else", cases=[{"case_id": "yes", "logical_operator": "and", "conditions": held}], **more)


def deciding(operator, value, actual, **more):
    choice = choosing(operator, value, ["start", "v"], **more)
    return drawn([choice], [edge("start", "choose"), edge("choose", "end", "yes")], v=actual)


def looping(constant):
    """Once, with a list; the end is reached if the list comes out of it with something in it."""
    settings = {"loop_count": 1, "start_node_id": "first", "break_conditions": [], "logical_operator": "and"}
    variable = {"label": "s", "var_type": "array[string]", "value_type": "constant", "value": constant}
    loop = node("loop", "loop", loop_variables=[variable], **settings)
    inside = [node("first", "loop-start", loop_id="loop"), node("last", "loop-end", loop_id="loop")]
    edges = [edge("start", "loop"), edge("first", "last"), edge("loop", "choose"), edge("choose", "end", "yes")]
    return drawn([loop, *inside, choosing("not empty", None, ["loop", "s"])], edges)


def rendering(text):
    return drawn([template("t", text)], [edge("start", "t"), edge("t", "end")])


def drawn(between, edges, **inputs):
    return {"graph": {"nodes": [START, *between, END], "edges": edges}, "inputs": inputs}


def template(node_id, text="x", **variables):
    bound = [{"variable": name, "value_selector": selector} for name, selector in variables.items()]
    return node(node_id, "template-transform", template=text, variables=bound)


def looping_in_a_loop():
    """An inner loop that ends itself, in one of two rounds; the end is reached if there were two."""
    settings = {"start_node_id": "first", "break_conditions": [], "logical_operator": "and", "loop_variables": []}
    outer = node("outer", "loop", loop_count=2, **settings)
    inner = node("inner", "loop", loop_count=3, loop_id="outer", **settings | {"start_node_id": "second"})
    inside = [node("first", "loop-start", loop_id="outer"), inner]
    inside += [node("second", "loop-start", loop_id="inner"), node("last", "loop-end", loop_id="inner")]
    edges = [edge("start", "outer"), edge("first", "inner"), edge("second", "last"), edge("outer", "choose")]
    return drawn([outer, *inside, choosing("=", "2", ["outer", "loop_round"])], [*edges, edge("choose", "end", "yes")])


def iterating(items):
    """In parallel, giving each item as it is; the end is reached if as many come out as went in."""
    settings = {"is_parallel": True, "error_handle_mode": "remove-abnormal-output", "start_node_id": "first"}
    rounds = node("each", "iteration", iterator_selector=["start", "v"], output_selector=["each", "item"], **settings)
    counting = template("count", "{{ a | length }}", a=["each", "output"])
    inside = [node("first", "iteration-start"), template("inner")]
    for one in inside:
        one["data"]["iteration_id"] = "each"
    edges = [edge("start", "each"), edge("first", "inner"), edge("each", "count"), edge("count", "choose")]
    choice = choosing("is", str(len(items)), ["count", "output"])
    return drawn([rounds, *inside, counting, choice], [*edges, edge("choose", "end", "yes")], v=items)


TAKEN, NOT_TAKEN = ("succeeded", "choose yes", "end"), ("succeeded", "choose false")
FAILED = ("failed",)
TO_THE_END = ("succeeded", "end")

DIFFERENCES = {
    "is-not-on-null": (deciding("is not", "a", None), NOT_TAKEN, TAKEN),
    "unequal-on-null": (deciding("≠", "1", None), NOT_TAKEN, TAKEN),
    "whole-number-and-fraction": (deciding("=", "1.0", 1), FAILED, TAKEN),
    "boolean-written-otherwise": (deciding("is", "True", True), FAILED, TAKEN),
    "boolean-among-other-texts": (deciding("contains", "maybe", [True]), FAILED, NOT_TAKEN),
    "boolean-asked-whether-it-is-empty": (deciding("not empty", "", True), FAILED, TAKEN),
    "branch-with-a-default-value": (
        deciding("is", "a", 1, error_strategy="default-value", default_value=[]),
        FAILED,
        ("partial-succeeded",),
    ),
    "list-as-a-loop-variable": (looping(["x"]), NOT_TAKEN, TAKEN),
    "end-of-an-inner-loop": (looping_in_a_loop(), NOT_TAKEN, TAKEN),
    "null-results-of-parallel-rounds": (iterating(["x", None]), NOT_TAKEN, TAKEN),
    "edge-with-a-null-handle": (
        drawn([], [edge("start", "end") | {"sourceHandle": None}]),
        ("succeeded",),
        TO_THE_END,
    ),
    "join-with-a-parent-that-nothing-leads-to": (
        drawn([template("alone")], [edge("start", "end"), edge("alone", "end")]),
        ("succeeded",),
        TO_THE_END,
    ),
    "edge-to-nowhere": (drawn([], [edge("start", "end"), edge("start", "ghost")]), ("refused",), TO_THE_END),
    "cycle": (
        drawn(
            [template("a"), template("b")], [edge("start", "a"), edge("a", "b"), edge("b", "a"), edge("start", "end")]
        ),
        TO_THE_END,
        ("refused",),
    ),
    "template-that-looks-around": (rendering("{{ ''.__class__ }}"), TO_THE_END, FAILED),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_difference(name, ask):
    asked, theirs, ours = DIFFERENCES[name]
    assert essence(atelier(asked)) == ours
    if ask is not None:
        assert essence(ask(asked)) == theirs


@pytest.mark.parametrize("name", DIFFERENCES)
def test_each_is_told_in_the_documentation(name):
    assert f"`{name}`" in (ROOT / "docs/dify-compatibility.md").read_text("utf-8")


def essence(told):
    """How it ended, the branches that were chosen, and whether the end was reached."""
    if "refused" in told:
        return ("refused",)
    if told["status"] == "failed":
        return FAILED
    nodes = told["nodes"]
    chosen = [f"{name} {step['handle']}" for name, step in nodes.items() if step["handle"] != "source"]
    return (told["status"], *chosen, *(["end"] if "end" in nodes else []))
