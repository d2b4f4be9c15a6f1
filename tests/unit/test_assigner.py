import pytest
from drawing import draw, end, node, start

from app.errors import DocumentInvalid, NodeFailed
from app.graph.execute import execute
from app.graph.graph import load_graph
from app.graph.nodes.operations import MOST_ITEMS
from app.graph.variables import VariablePool


def run(assigner, **values):
    """What the step shows, and the variables after it."""
    graph = load_graph(draw([start(), assigner, end()], ["start > set", "set > end"]))
    pool = VariablePool.of({"start": values})
    return execute(graph.nodes["set"], pool), pool.values["start"]


def item(operation, value=None, input_type="constant", target="x"):
    return {"variable_selector": ["start", target], "input_type": input_type, "operation": operation, "value": value}


def change(current, operation, value=None, input_type="constant", **others):
    items = [item(operation, value, input_type)]
    return run(node("set", "assigner", version="2", items=items), x=current, **others)[1]["x"]


def change_v1(current, mode, **others):
    old = {"assigned_variable_selector": ["start", "x"], "input_variable_selector": ["start", "y"], "write_mode": mode}
    return run(node("set", "assigner", **old), x=current, **others)[1]["x"]


@pytest.mark.parametrize(
    ("current", "operation", "value", "after"),
    [
        ("a", "set", "b", "b"),
        ("a", "over-write", "b", "b"),
        ({"a": 1}, "set", '{"b": 2}', {"b": 2}),
        (1, "+=", 2, 3),
        (1, "-=", 2.5, -1.5),
        (3, "*=", 2, 6),
        (1, "/=", 2, 0.5),
    ],
)
def test_constants(current, operation, value, after):
    assert change(current, operation, value) == after


@pytest.mark.parametrize(
    ("current", "operation", "given", "after"),
    [
        ("a", "over-write", "b", "b"),
        ([1], "over-write", [2, 3], [2, 3]),
        (["a"], "append", "b", ["a", "b"]),
        ([], "append", {"b": 1}, [{"b": 1}]),
        ([1], "extend", [2, 3.5], [1, 2, 3.5]),
        ([1, 2], "remove-first", None, [2]),
        ([1, 2], "remove-last", None, [1]),
        ([], "remove-last", None, []),
        ("a", "clear", None, ""),
        (5, "clear", None, 0),
        ([1], "clear", None, []),
        ("a", "over-write", None, "a"),
    ],
)
def test_variables(current, operation, given, after):
    assert change(current, operation, ["start", "y"], "variable", y=given) == after


@pytest.mark.parametrize(
    ("current", "operation", "value", "input_type", "text"),
    [
        ("a", "+=", 1, "constant", "Operation += is not supported for type string"),
        ("a", "append", ["start", "y"], "variable", "Operation append is not supported for type string"),
        ([1], "set", 1, "constant", "Operation set is not supported for type array[number]"),
        (1, "set", ["start", "y"], "variable", "Input type variable is not supported for operation set"),
        ([1], "append", 1, "constant", "Input type constant is not supported for operation append"),
        (1, "/=", 0, "constant", "Invalid input value 0"),
        (1, "set", "x", "constant", "Invalid input value x"),
        ({}, "set", "{", "constant", "Invalid input value {"),
        (["a"], "append", ["start", "y"], "variable", "Invalid input value 7"),
        ("a", "over-write", ["start", "gone"], "variable", "Variable ['start', 'gone'] not found"),
        (2**62, "*=", 2, "constant", "Invalid input value 2"),
        (1e308, "*=", 10, "constant", "Invalid input value 10"),
    ],
)
def test_what_does_not_fit_fails_the_node(current, operation, value, input_type, text):
    with pytest.raises(NodeFailed) as failure:
        change(current, operation, value, input_type, y=7)
    assert (failure.value.message, failure.value.error_type) == (text, "")


def test_a_variable_that_is_not_there_can_not_be_set():
    with pytest.raises(NodeFailed, match=r"Variable \['start', 'x'\] not found"):
        run(node("set", "assigner", version="2", items=[item("clear")]))


def test_later_items_see_what_earlier_ones_have_set():
    items = [item("+=", 1), item("over-write", ["start", "x"], "variable", "y"), item("+=", 1)]
    done, left = run(node("set", "assigner", version="2", items=items), x=1, y=0)
    assert left == {"x": 3, "y": 2}
    assert (done.outputs, done.process_data["x"], done.inputs) == ({}, 3, {"items": items})
    assert done.process_data["__updated_variables"][1] == {
        "name": "y",
        "selector": ["start", "y"],
        "value_type": "integer",
        "new_value": 2,
    }


def test_an_assigner_that_fails_has_set_nothing():
    graph = load_graph(
        draw([start(), node("set", "assigner", items=[item("+=", 1), item("set", "a")]), end()], ["start > set"])
    )
    pool = VariablePool.of({"start": {"x": 1}})
    with pytest.raises(NodeFailed, match="Invalid input value a"):
        execute(graph.nodes["set"], pool)
    assert pool.values["start"] == {"x": 1}


def test_a_list_that_doubles_comes_to_an_end():
    half = [0] * (MOST_ITEMS // 2 + 1)
    with pytest.raises(NodeFailed, match=f"at most {MOST_ITEMS} items"):
        change(half, "extend", ["start", "y"], "variable", y=half)


def test_the_first_version_writes_over_appends_and_clears():
    assert change_v1("a", "over-write", y=5) == 5
    assert change_v1([1], "append", y="b") == [1, "b"]
    assert change_v1({"a": 1}, "clear") == {}


@pytest.mark.parametrize(
    ("current", "mode", "others", "text"),
    [
        ("a", "append", {"y": 1}, "append mode requires an array variable"),
        ("a", "over-write", {}, "input value not found"),
    ],
)
def test_what_the_first_version_refuses(current, mode, others, text):
    with pytest.raises(NodeFailed, match=text):
        change_v1(current, mode, **others)


def test_what_cannot_be_read_is_named():
    odd = node("set", "assigner", version="2", items=[item("guess", input_type="hope")])
    with pytest.raises(DocumentInvalid) as refused:
        load_graph(draw([start(), odd, end()], ["start > set", "set > end"]))
    assert "operation 'guess' is not known" in refused.value.problems[0]
    assert "input_type must be 'variable' or 'constant', got 'hope'" in refused.value.problems[1]
