import pytest

from app.domain.artifact import Artifact
from app.graph.selectors import MISSING, TextTemplate, as_selector, text_of
from app.graph.variables import VariablePool

PICTURE = Artifact("a1", "r", "s", "0" * 64, 5, "image/png", ".png", "cat.png").to_value()
POOL = VariablePool.of({"start": {"name": "Ada", "nothing": None, "deep": {"a": {"b": 7}}, "picture": PICTURE}})


def test_a_reference_is_replaced_by_its_value():
    assert TextTemplate.of("Hi {{#start.name#}}!").render(POOL.get) == "Hi Ada!"


def test_an_unresolved_reference_stays_as_its_inner_text():
    assert TextTemplate.of("[{{#start.ghost#}}]").render(POOL.get) == "[start.ghost]"


@pytest.mark.parametrize("text", ["{{# start.name #}}", "{{#a-b.name#}}", "{{#start#}}", "{{start.name}}"])
def test_what_is_not_quite_a_reference_stays_as_written(text):
    assert TextTemplate.of(text).render(POOL.get) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as is", "as is"),
        (3, "3"),
        (2.5, "2.5"),
        (True, "True"),
        (None, ""),
        ({"k": "é"}, '{"k": "é"}'),
        (["a", "é"], '["a", "é"]'),
        ([1, 2], "[1, 2]"),
        ([{"k": 1}], "[{'k': 1}]"),
        ([], ""),
        (PICTURE, ""),
        ([PICTURE, PICTURE], ""),
    ],
)
def test_values_read_in_a_text_as_in_dify(value, text):
    assert text_of(value) == text


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("type", "image"),
        ("size", 5),
        ("name", "cat.png"),
        ("mime_type", "image/png"),
        ("transfer_method", "tool_file"),
        ("extension", ".png"),
        ("related_id", "a1"),
        ("url", ""),
        ("sha256", MISSING),
    ],
)
def test_a_file_answers_for_its_attributes_and_no_others(attribute, value):
    assert POOL.get(("start", "picture", attribute)) == value


def test_null_is_a_value_and_absence_is_not():
    assert POOL.get(("start", "nothing")) is None
    assert POOL.get(("start", "ghost")) is MISSING
    assert POOL.get(("ghost", "name"), "default") == "default"


def test_a_selector_walks_into_objects():
    assert POOL.get(("start", "deep", "a", "b")) == 7
    assert POOL.get(("start", "deep", "a", "c")) is MISSING
    assert POOL.get(("start", "name", "a")) is MISSING


def test_a_pool_grows_by_a_nodes_outputs():
    pool = VariablePool.of(POOL.values)
    pool.add("node", {"x": 1})
    assert pool.get(("node", "x")) == 1
    assert POOL.get(("node", "x")) is MISSING


@pytest.mark.parametrize("written", [None, "start.name", [], ["start"], ["start", 1], ["start", ""]])
def test_a_selector_is_a_list_of_two_texts_or_more(written):
    assert as_selector(written) is None
