import pytest
from drawing import branch, condition, draw, end, node, start

from app.domain.artifact import Artifact
from app.errors import NodeFailed
from app.graph.execute import execute
from app.graph.graph import load_graph
from app.graph.variables import VariablePool

PNG = Artifact("a1", "r", "s", "0" * 64, 5, "image/png", ".png", "cat.png").to_value()
PDF = Artifact("a2", "r", "s", "0" * 64, 900, "application/pdf", ".pdf", "deed.pdf").to_value()


def decide(choice, **values):
    graph = load_graph(draw([start(), choice, end()], ["start > choose", "choose false > end"]))
    return execute(graph.nodes["choose"], VariablePool.of({"start": values}))


def holds(actual, operator, expected=None, **rest):
    choice = branch("choose", yes=[condition(["start", "v"], operator, expected, **rest)])
    return decide(choice, v=actual).outputs["result"]


def test_the_first_case_that_holds_is_the_handle():
    choice = branch("choose", a=[condition(["start", "v"], "=", "1")], b=[condition(["start", "v"], ">", "1")])
    assert decide(choice, v=5).handle == "b"
    assert decide(choice, v=0).handle == "false"


def test_the_step_shows_what_was_compared_and_how_it_went():
    done = decide(branch("choose", a=[condition(["start", "v"], "is", "{{#start.w#}}")]), v="x", w="y")
    assert done.outputs == {"result": False, "selected_case_id": "false"}
    assert done.inputs["conditions"] == [{"actual_value": "x", "expected_value": "y", "comparison_operator": "is"}]
    assert done.process_data["condition_results"][0]["results"] == [False]


def test_a_document_from_before_cases_has_one_case_called_true():
    old = node("choose", "if-else", logical_operator="or", conditions=[condition(["start", "v"], "is", "x")])
    done = decide(old, v="x")
    assert (done.handle, done.process_data["condition_results"][0]["group"]) == ("true", "default")


@pytest.mark.parametrize(("logical_operator", "handle", "looked_at"), [("and", "false", 1), ("or", "yes", 2)])
def test_a_case_stops_at_the_condition_that_settles_it(logical_operator, handle, looked_at):
    choice = branch("choose", yes=[condition(["start", "v"], "is", text) for text in ("a", "x", "b")])
    choice["data"]["cases"][0]["logical_operator"] = logical_operator
    done = decide(choice, v="x")
    assert (done.handle, len(done.inputs["conditions"])) == (handle, looked_at)


def test_a_variable_that_is_not_there_fails_the_node():
    with pytest.raises(NodeFailed, match=r"^Variable \['start', 'v'\] not found$"):
        decide(branch("choose", yes=[condition(["start", "v"], "exists")]))


@pytest.mark.parametrize(
    ("actual", "operator", "expected", "result"),
    [
        ("landscape", "contains", "land", True),
        ("", "contains", "land", False),
        (None, "contains", "land", False),
        ("", "not contains", "land", True),
        (["a", "b"], "contains", "b", True),
        ([1, 2], "contains", "2", False),
        ([True], "contains", "true", True),
        ([], "contains", "b", False),
        (["a"], "not contains", "b", True),
        ("landscape", "start with", "land", True),
        ("", "start with", "", False),
        ("landscape", "end with", "land", False),
        ("x", "is", "x", True),
        ("x", "is not", "x", False),
        (None, "is", "x", False),
        (None, "is not", "x", True),
        (0, "contains", "0", False),
        ({}, "start with", "a", False),
        (0, "in", ["0"], False),
        (True, ">", "0", True),
        (True, "=", "2", True),
        ("ab", "all of", ["a", "b"], True),
        ("ab", "all of", ["c"], False),
        (True, "is", "true", True),
        (True, "is", "1", True),
        (False, "is not", True, True),
        ("", "empty", None, True),
        (0, "empty", None, True),
        (False, "empty", None, True),
        ({}, "empty", None, True),
        ([1], "not empty", None, True),
        ("a", "in", ["a", "b"], True),
        (None, "in", ["a"], False),
        (None, "not in", ["a"], True),
        (2, "in", ["1", "2"], False),
        (True, "in", ["maybe", "true"], True),
        ([True], "contains", "maybe", False),
        ([True, "a"], "contains", "true", False),
        (3, "=", "3", True),
        (1, "=", "1.5", False),
        (1, "=", "1.0", True),
        (1.5, "=", "1.5", True),
        (3, "≠", "3", False),
        (None, "≠", "3", True),
        (True, "=", "true", True),
        (2**53 + 1, "=", str(2**53), False),
        (2, ">", "1.5", True),
        (2, "<", "1.5", False),
        (2, "≥", "2", True),
        (2, "≤", "1", False),
        (None, ">", "1", False),
        (None, "null", None, True),
        ("", "null", None, False),
        (0, "not null", None, True),
        (PNG, "exists", None, True),
        (None, "not exists", None, True),
        (["a", "b", "c"], "all of", ["a", "c"], True),
        (["a"], "all of", ["a", "c"], False),
        ([True, False], "all of", [True], True),
        ([], "all of", ["a"], False),
    ],
)
def test_operators(actual, operator, expected, result):
    assert holds(actual, operator, expected) is result


@pytest.mark.parametrize(
    ("actual", "operator", "expected", "text"),
    [
        (3, "contains", "3", "Invalid actual value type: string or array"),
        ({"a": 1}, "contains", "a", "Invalid actual value type: string or array"),
        (3, "start with", "3", "Invalid actual value type: string"),
        (3, "is", "3", "Invalid actual value type: string or boolean"),
        (True, "is", "perhaps", "Cannot convert 'perhaps' to boolean"),
        ("a", "in", "abc", "Invalid expected value type: array"),
        ("3", "=", "3", "Invalid actual value type: number"),
        ("3", ">", "2", "Invalid actual value type: number"),
        (3, ">", "x", "Cannot convert 'x' to number"),
        (["a"], "all of", ["a", True], "all of operator expects homogeneous list of strings or booleans"),
        ([PNG], "contains", "image", "Sub variable is required"),
    ],
)
def test_what_cannot_be_compared_fails_the_node(actual, operator, expected, text):
    with pytest.raises(NodeFailed) as failure:
        holds(actual, operator, expected)
    assert failure.value.message == text


@pytest.mark.parametrize(
    ("files", "key", "operator", "value", "result"),
    [
        ([PNG, PDF], "type", "in", ["image"], True),
        ([PDF], "type", "in", ["image"], False),
        ([PNG, PDF], "type", "not in", ["image"], False),
        ([PNG, PDF], "size", ">", "100", True),
        ([PNG], "name", "start with", "cat", True),
        ([PNG], "extension", "is", "png", True),
        ([PNG], "extension", "in", ["jpg", ".png"], True),
        ([PNG], "transfer_method", "is not", "tool_file", False),
        (PDF, "mime_type", "contains", "pdf", True),
    ],
)
def test_a_list_of_files_is_asked_by_sub_conditions(files, key, operator, value, result):
    sub = {"conditions": [{"key": key, "comparison_operator": operator, "value": value}]}
    assert holds(files, "contains", sub_variable_condition=sub) is result


@pytest.mark.parametrize(("logical_operator", "result"), [("and", False), ("or", True)])
def test_sub_conditions_are_joined_by_their_own_operator(logical_operator, result):
    conditions = [{"key": "type", "comparison_operator": "is", "value": kind} for kind in ("image", "video")]
    sub = {"logical_operator": logical_operator, "conditions": conditions}
    assert holds([PNG], "contains", sub_variable_condition=sub) is result
