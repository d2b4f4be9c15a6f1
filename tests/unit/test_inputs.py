import base64
import json

import pytest
from drawing import draw, end, field, start

from app.errors import DocumentInvalid, InvalidParam, NodeFailed
from app.graph.execute import execute, first_pool
from app.graph.files import GivenFile
from app.graph.graph import load_graph
from app.graph.inputs import input_form, read_inputs

UPLOAD = "72fa9618-8f89-4a37-9b33-7e1178a24a67"
REFERENCE = "dify-file-ref:" + base64.urlsafe_b64encode(json.dumps({"record_id": UPLOAD}).encode()).decode()


def graph_of(*fields):
    return load_graph(draw([start(*fields), end()], ["start > end"]))


def read(declared, value):
    return read_inputs(graph_of(declared), {"v": value})["v"]


@pytest.mark.parametrize(
    ("declared", "value", "text"),
    [
        (field("v", required=True), None, "v is required in input form"),
        (field("v", required=True, default="x"), None, "v is required in input form"),
        (field("v"), 3, "(type 'text-input') v in input form must be a string"),
        (field("v", "paragraph"), [], "(type 'paragraph') v in input form must be a string"),
        (field("v", max_length=3), "four", "v in input form must be less than 3 characters"),
        (field("v", "select", options=["a", "b"]), "c", "v in input form must be one of the following: ['a', 'b']"),
        (field("v", "select", options=["a", "{b}"]), "", "v in input form must be one of the following: ['a', '{b}']"),
        (field("v", "select", options=["a"]), 1, "(type 'select') v in input form must be a string"),
        (field("v", "number"), "twelve", "v in input form must be a valid number"),
        (field("v", "number"), "1e5", "v in input form must be a valid number"),
        (field("v", "number"), {"n": 1}, "v in input form must be a valid number"),
        (field("v", "number"), float("nan"), "v in input form must be a valid number"),
        (field("v", "checkbox"), {"on": 1}, "Invalid input type for ['v']"),
        (field("v", "json_object"), "{}", "v in input form must be a dict"),
        (field("v", "file"), "cat.png", "v in input form must be a file"),
        (field("v", "file"), {"type": "image"}, "transfer_method is required in file mapping"),
        (field("v", "file"), {"transfer_method": "x"}, "'x' is not a valid FileTransferMethod"),
        (field("v", "file"), {"transfer_method": "remote_url"}, "Invalid file url"),
        (field("v", "file"), {"transfer_method": "remote_url", "url": "ftp://a"}, "Invalid file url"),
        (field("v", "file"), {"transfer_method": "local_file"}, "Invalid upload file id"),
        (
            field("v", "file"),
            {"transfer_method": "local_file", "upload_file_id": "7"},
            "Invalid upload file id format",
        ),
        (field("v", "file"), {"transfer_method": "tool_file", "tool_file_id": "7"}, "ToolFile 7 not found"),
        (field("v", "file-list"), {"a": 1}, "v in input form must be a list of files"),
        (field("v", "file-list"), ["a"], "v in input form must be a list of files"),
        (field("v", "file-list", max_length=1), [{}, {}], "v in input form must be less than 1 files"),
        (field("v", "file-list"), [{"transfer_method": "remote_url"}], "Invalid file url"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_in_difys_words(declared, value, text):
    with pytest.raises(InvalidParam) as refusal:
        read(declared, value)
    assert (refusal.value.message, refusal.value.params) == (text, "v")


@pytest.mark.parametrize(
    ("declared", "value", "result"),
    [
        (field("v"), None, None),
        (field("v", default="d"), None, "d"),
        (field("v", required=True), "", ""),
        (field("v", max_length=3), "abc", "abc"),
        (field("v", max_length=0), "abcdef", "abcdef"),
        (field("v"), "a\x00b", "ab"),
        (field("v", "select", options=["a"], default=""), None, None),
        (field("v", "select", options=["a"]), "a", "a"),
        (field("v", "number"), "12", 12),
        (field("v", "number"), " 1.5 ", 1.5),
        (field("v", "number"), "  ", None),
        (field("v", "number", default="7"), None, 7),
        (field("v", "number"), True, True),
        (field("v", "checkbox"), "Yes", True),
        (field("v", "checkbox"), "off", False),
        (field("v", "checkbox"), 0, False),
        (field("v", "checkbox"), "perhaps", "perhaps"),
        (field("v", "json_object"), {"a": 1}, {"a": 1}),
        (field("v", "json_object"), "", ""),
        (field("v", "file"), "", None),
        (
            field("v", "file"),
            {"type": "image", "transfer_method": "local_file", "upload_file_id": UPLOAD.upper().replace("-", "")},
            GivenFile("local_file", UPLOAD, "image", "v"),
        ),
        (
            field("v", "file"),
            {"transfer_method": "tool_file", "reference": REFERENCE},
            GivenFile("tool_file", UPLOAD, None, "v"),
        ),
        (field("v", "file-list", required=True), [], []),
    ],
)
def test_a_value_that_fits_is_cast(declared, value, result):
    assert read(declared, value) == result
    assert type(read(declared, value)) is type(result)


def test_what_is_not_declared_is_dropped_and_what_is_absent_is_null():
    assert read_inputs(graph_of(field("a"), field("b")), {"b": "x", "c": "y"}) == {"a": None, "b": "x"}


def test_the_first_variable_that_fails_is_the_one_that_is_told():
    with pytest.raises(InvalidParam, match=r"^a is required"):
        read_inputs(graph_of(field("a", required=True), field("b", required=True)), {})


def test_the_input_form_is_what_the_document_declares():
    declared = field("a", "paragraph", max_length=9, hint="any")
    assert input_form(graph_of(declared)) == [{"paragraph": declared}]


BOXED = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.mark.parametrize(
    ("schema", "value", "fault"),
    [
        (BOXED, {"n": 1}, None),
        (json.dumps(BOXED), {"n": "1"}, "'1' is not of type 'integer'"),
        (BOXED, {"m": 1}, "'n' is a required property"),
        ({"$ref": "http://127.0.0.1:9/schema"}, {"n": 1}, "Unresolvable: http://127.0.0.1:9/schema"),
        ("", {"m": 1}, None),
    ],
)
def test_an_object_that_does_not_match_its_schema_fails_the_start_node(schema, value, fault):
    graph = graph_of(field("v", "json_object", json_schema=schema))
    pool = first_pool(graph, read_inputs(graph, {"v": value}), {})
    if fault is None:
        assert execute(graph.nodes["start"], pool).outputs == {"v": value}
    else:
        with pytest.raises(NodeFailed) as failure:
            execute(graph.nodes["start"], pool)
        assert failure.value.message == f"JSON object for 'v' does not match schema: {fault}"


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ("{", "json_schema is not valid JSON"),
        ("[1]", "json_schema must be a JSON object, got list"),
        ({"type": "nothing"}, "Invalid JSON schema: 'nothing' is not valid"),
    ],
)
def test_what_is_no_schema_is_named_with_its_variable(schema, problem):
    with pytest.raises(DocumentInvalid) as refused:
        graph_of(field("v", "json_object", json_schema=schema))
    assert f"variable 'v': {problem}" in refused.value.problems[0]
