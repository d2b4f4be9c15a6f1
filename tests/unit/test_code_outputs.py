"""What a code node reads of its document, and what it lets code answer."""

import pytest
from drawing import draw, end, node, start

from app.domain.artifact import MARK, Artifact
from app.errors import DocumentInvalid, NodeFailed
from app.graph.execute import execute
from app.graph.graph import load_graph
from app.graph.nodes.code_outputs import OutputLimits
from app.graph.variables import VariablePool

PNG = Artifact("a1", "r", "s", "0" * 64, 5, "image/png", ".png", "cat.png").to_value()
LIMITS = OutputLimits()


def graph_of(outputs, code="def main(): return {}", language="python3", **data):
    code = node("code", "code", code_language=language, code=code, outputs=outputs, **data)
    return load_graph(draw([start(), code, end()], ["start > code", "code > end"]))


def answer(value, kind, children=None, limits=LIMITS):
    work = graph_of({"x": {"type": kind, "children": children}}).nodes["code"].work
    return work.outputs_of({"x": value}, limits)["x"]


@pytest.mark.parametrize(
    ("kind", "value", "kept"),
    [
        ("string", "a\0b", "ab"),
        ("string", None, None),
        ("number", True, 1),
        ("number", 0.1, 0.1),
        ("boolean", False, False),
        ("object", {"a": [1, "b", None, {"c": [[1], []]}]}, {"a": [1, "b", None, {"c": [[1], []]}]}),
        ("array[string]", ["a", None], ["a", None]),
        ("array[number]", [True, 2.5], [1, 2.5]),
        ("array[object]", [{"a": 1}, None], [{"a": 1}, None]),
        ("array[boolean]", [True, None], [True, None]),
        ("array[number]", None, None),
    ],
)
def test_values_of_the_declared_type_are_kept(kind, value, kept):
    assert answer(value, kind) == kept
    assert type(answer(value, kind)) is type(kept)


@pytest.mark.parametrize(
    ("kind", "value", "error"),
    [
        ("string", 1, "Output x must be a string, got int instead."),
        ("string", "x" * 400_001, "The length of output variable `x` must be less than 400000 characters"),
        ("number", "1", "Output x is not a number, got <class 'str'> instead."),
        (
            "number",
            2**63,
            "Output variable `x` is out of range, it must be between -9223372036854775807 and 9223372036854775807.",
        ),
        ("number", float("nan"), "Output variable `x` is out of range"),
        ("number", 1e-21, "Output variable `x` has too high precision, it must be less than 20 digits."),
        ("object", [], "Output x is not an object, got <class 'list'> instead."),
        ("object", {"a": float("inf")}, "Output variable `x.a` is out of range"),
        ("object", {"a": {"b": {"c": {"d": {"e": {}}}}}}, "Depth limit 5 reached, object too deep."),
        ("object", {"a": {MARK: "somebody's"}}, "Output x.a can't have the key __artifact__."),
        ("boolean", {MARK: "somebody's"}, "Output x can't have the key __artifact__."),
        ("array[string]", "a", "Output x is not an array, got <class 'str'> instead."),
        ("array[string]", ["a"] * 31, "The length of output variable `x` must be less than 30 elements."),
        ("array[string]", [1], "Output x[0] must be a string, got int instead."),
        ("array[number]", [1] * 1001, "The length of output variable `x` must be less than 1000 elements."),
        ("array[number]", [1, None], "The element at index 1 of output variable `x` must be a number."),
        ("array[object]", [{}] * 31, "The length of output variable `x` must be less than 30 elements."),
        ("array[object]", [{}, 1], "Output x[1] is not an object, got <class 'int'> instead at index 1."),
        ("array[boolean]", [0], "Output x[0] is not a boolean, got <class 'int'> instead."),
    ],
)
def test_what_is_not_declared_so_is_refused_in_known_words(kind, value, error):
    with pytest.raises(NodeFailed) as failed:
        answer(value, kind)
    assert error in failed.value.message
    assert failed.value.error_type == ("DepthLimitError" if "Depth" in error else "OutputValidationError")


def test_children_of_objects_are_declared_too():
    children = {"name": {"type": "string", "children": None}}
    assert answer({"name": "Ada"}, "object", children) == {"name": "Ada"}
    with pytest.raises(NodeFailed, match=r"Output x\[1\].name must be a string, got int instead"):
        answer([{"name": "Ada"}, {"name": 1}], "array[object]", children)
    with pytest.raises(NodeFailed, match="Not all output parameters are validated"):
        answer({"name": "Ada", "age": 36}, "object", children)


@pytest.mark.parametrize(
    ("result", "error"),
    [
        ({}, "Output x is missing."),
        ({"x": "a", "y": "b"}, "Not all output parameters are validated."),
        ([], "Result must be a dict, got list."),
        (None, "Result must be a dict, got NoneType."),
    ],
)
def test_every_declared_output_and_no_other_is_answered(result, error):
    work = graph_of({"x": {"type": "string"}}).nodes["code"].work
    with pytest.raises(NodeFailed) as failed:
        work.outputs_of(result, LIMITS)
    assert failed.value.message == error


def test_limits_can_be_others():
    with pytest.raises(NodeFailed, match="must be less than 2 elements"):
        answer(["a", "b", "c"], "array[string]", limits=OutputLimits(string_array_length=2))


def test_code_gets_values_as_templates_see_them():
    bindings = [{"variable": name, "value_selector": ["start", name]} for name in ("text", "file", "files", "missing")]
    graph = graph_of({}, variables=bindings)
    call = execute(graph.nodes["code"], VariablePool.of({"start": {"text": "a", "file": PNG, "files": [PNG]}}))
    assert call.work_class == "cpu"
    assert (call.inputs["text"], call.inputs["missing"]) == ("a", None)
    assert call.inputs["file"]["filename"] == call.inputs["files"][0]["name"] == "cat.png"
    assert MARK not in call.inputs["file"]


def test_a_language_or_a_type_that_is_not_known_is_a_problem():
    with pytest.raises(DocumentInvalid) as failed:
        graph_of({"x": {"type": "file"}}, language="ruby")
    assert "code_language must be one of python3, javascript, got 'ruby'" in str(failed.value)
    assert "output 'x' has the type 'file'" in str(failed.value)


@pytest.mark.parametrize(
    ("code", "warning"),
    [
        ("import json, requests\nfrom bs4.element import Tag", "imports bs4, requests"),
        ("def main(:", "can't be compiled: invalid syntax"),
    ],
)
def test_what_python_can_not_have_is_told_at_import(code, warning):
    assert any(warning in str(text) for text in graph_of({}, code=code).warnings)
    assert not graph_of({}, code="import json, os.path\nfrom . import x").warnings


def test_what_javascript_can_not_have_is_told_at_import():
    asks = graph_of({}, "const fs = require('fs'); Buffer.from('')", "javascript").warnings
    assert [str(text).partition(": ")[2] for text in asks] == [
        "the code names Buffer, require: it runs with JavaScript's own objects alone"
    ]
    assert not graph_of({}, "function main({fetch}) { return {r: JSON.parse(fetch).process} }", "javascript").warnings
