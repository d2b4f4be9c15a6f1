"""What differs from graphon on purpose, each shown by a case and told in docs/dify-compatibility.md by its name.

Where there is no graphon, what it says is taken from here, and the test shows our side alone.
"""

import pytest

from tests.oracle.drawn import edge, node
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


def deciding(operator, value, actual):
    condition = {"variable_selector": ["start", "v"], "comparison_operator": operator, "value": value}
    choice = node("choose", "if-else", cases=[{"case_id": "yes", "logical_operator": "and", "conditions": [condition]}])
    graph = {"nodes": [START, choice, END], "edges": [edge("start", "choose"), edge("choose", "end", "yes")]}
    return {"graph": graph, "inputs": {"v": actual}}


def rendering(text):
    template = node("t", "template-transform", template=text, variables=[])
    return drawn([template], [edge("start", "t"), edge("t", "end")])


def drawn(between, edges):
    return {"graph": {"nodes": [START, *between, END], "edges": edges}, "inputs": {}}


def template(node_id):
    return node(node_id, "template-transform", template="x", variables=[])


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
