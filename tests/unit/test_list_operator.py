import pytest

from app.errors import DocumentInvalid, NodeFailed
from app.graph.graph import load_graph
from app.graph.variables import VariablePool
from tests.unit.drawing import draw, end, field, node, start


def picture(name, size, kind="image/png", **more):
    extension = "." + name.rpartition(".")[2]
    return {"__artifact__": name, "filename": name, "extension": extension, "mime_type": kind, "size": size, **more}


FILES = [picture("b.png", 3), picture("a.pdf", 9, "application/pdf"), picture("c.png", 1, transfer_method="local_file")]


def operate(items, **data):
    listed = node("pick", "list-operator", variable=["start", "v"], **data)
    graph = load_graph(draw([start(field("v"), field("w")), listed, end()], ["start > pick", "pick > end"]))
    pool = VariablePool.of({"start": {"v": items, "w": "b"}})
    return dict(graph.nodes["pick"].work.execute(pool).outputs)


def kept(items, operator, value, key=""):
    condition = {"key": key, "comparison_operator": operator, "value": value}
    return operate(items, filter_by={"enabled": True, "conditions": [condition]})["result"]


@pytest.mark.parametrize(
    ("items", "operator", "value", "result"),
    [
        (["ab", "bc"], "contains", "a", ["ab"]),
        (["ab", "bc"], "not contains", "a", ["bc"]),
        (["ab", "bc"], "start with", "{{#start.w#}}", ["bc"]),
        (["ab", "bc"], "end with", "c", ["bc"]),
        (["ab", "bc"], "is", "ab", ["ab"]),
        (["ab", "bc"], "is not", "ab", ["bc"]),
        (["a", "x"], "in", "abc", ["a"]),
        (["", "x"], "empty", "", [""]),
        (["", "x"], "not empty", "", ["x"]),
        ([1, 2.5, 3], ">", "2", [2.5, 3]),
        ([1, 2.5, 3], "≤", "2.5", [1, 2.5]),
        ([1, 2], "=", "2", [2]),
        ([1, 2], "≠", "2", [1]),
        ([True, False], "is", True, [True]),
        ([True, False], "is not", True, [False]),
    ],
)
def test_a_filter_keeps_what_it_says(items, operator, value, result):
    assert kept(items, operator, value) == result


@pytest.mark.parametrize(
    ("key", "operator", "value", "names"),
    [
        ("name", "start with", "a", ["a.pdf"]),
        ("extension", "is", ".png", ["b.png", "c.png"]),
        ("mime_type", "contains", "pdf", ["a.pdf"]),
        ("type", "in", ["image"], ["b.png", "c.png"]),
        ("type", "not in", ["image"], ["a.pdf"]),
        ("transfer_method", "in", ["local_file"], ["c.png"]),
        ("size", "≥", "3", ["b.png", "a.pdf"]),
        ("url", "empty", "", ["b.png", "a.pdf", "c.png"]),
    ],
)
def test_files_are_filtered_by_what_they_are(key, operator, value, names):
    assert [file["filename"] for file in kept(FILES, operator, value, key)] == names


def test_first_filtered_then_taken_then_sorted_then_cut():
    keep = {"enabled": True, "conditions": [{"comparison_operator": "contains", "value": "a"}]}
    falling, two = {"enabled": True, "value": "desc"}, {"enabled": True, "size": 2}
    items = ["ab", "x", "ac", "ad"]
    assert operate(items, filter_by=keep, order_by=falling, limit=two) == {
        "result": ["ad", "ac"],
        "first_record": "ad",
        "last_record": "ac",
    }
    assert operate(items, filter_by=keep, extract_by={"enabled": True, "serial": "2"})["result"] == ["ac"]
    assert operate(items, filter_by={**keep, "enabled": False})["result"] == items


def test_files_are_sorted_by_an_attribute():
    by_size = operate(FILES, order_by={"enabled": True, "key": "size", "value": "asc"})["result"]
    assert [file["size"] for file in by_size] == [1, 3, 9]


@pytest.mark.parametrize("nothing", [[], None, ""])
def test_of_nothing_nothing_is_left(nothing):
    assert operate(nothing) == {"result": [], "first_record": None, "last_record": None}


@pytest.mark.parametrize(
    ("items", "data", "words"),
    [
        (["a"], {"extract_by": {"enabled": True, "serial": "0"}}, "Invalid serial index: must be >= 1, got 0"),
        (["a"], {"extract_by": {"enabled": True, "serial": "2"}}, "Invalid serial index: must be <= 1, got 2"),
        (FILES, {"order_by": {"enabled": True, "key": "colour"}}, "Invalid order key: colour"),
        ("text", {}, r"Variable \['start', 'v'\] is not an array type"),
        ([1, "a"], {}, r"Variable \['start', 'v'\] is not an array type"),
    ],
)
def test_what_can_not_be_done_fails_in_difys_words(items, data, words):
    with pytest.raises(NodeFailed, match=words):
        operate(items, **data)


@pytest.mark.parametrize(
    ("items", "operator", "value", "key", "words"),
    [
        (["a"], "=", "a", "", "Invalid condition: ="),
        ([1], "contains", "1", "", "Invalid condition: contains"),
        ([1], "=", "one", "", "could not convert string to float: 'one'"),
        (["a"], "is", ["a"], "", "Invalid filter value"),
        ([True], "is", "true", "", "Boolean filter expects a boolean value"),
        (FILES, "is", "x", "colour", "Invalid key: colour"),
        (FILES, "is", "image", "type", "Invalid condition: is"),
    ],
)
def test_a_filter_that_does_not_fit_fails_in_difys_words(items, operator, value, key, words):
    with pytest.raises(NodeFailed, match=words):
        kept(items, operator, value, key)


def test_an_unknown_operator_is_the_authors_to_mend():
    with pytest.raises(DocumentInvalid, match="unknown operator 'like'"):
        kept(["a"], "like", "a")
