"""Where a model is, and what is made of a reply: no server, no worker."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.errors import DocumentInvalid, SettingsInvalid
from app.graph.graph import Graph, load_graph
from app.graph.nodes.parameter_extractor import ParameterExtractor
from app.graph.nodes.question_classifier import QuestionClassifier
from app.settings import Settings, load_settings
from tests.unit.drawing import draw, end, llm, model, node, start


def endpoints(**named: str) -> Settings:
    return load_settings(llm_endpoints={name: {"url": f"http://{url}"} for name, url in named.items()})


def loaded(asking: dict[str, Any], handle: str = "") -> Graph:
    way = f"{asking['id']} {handle}".strip()
    return load_graph(draw([start(), asking, end()], [f"start > {asking['id']}", f"{way} > end"]))


def extractor(*parameters: tuple[str, str, bool], **more: Any) -> ParameterExtractor:
    entries = [
        {"name": name, "type": kind, "description": "", "required": required, **more}
        for name, kind, required in parameters
    ]
    how = {"model": model(), "query": ["start", "q"], "parameters": entries, "reasoning_mode": "prompt"}
    work = loaded(node("e", "parameter-extractor", **how)).nodes["e"].work
    assert isinstance(work, ParameterExtractor)
    return work


def test_the_most_exact_name_has_the_endpoint() -> None:
    settings = load_settings(
        llm_endpoints={
            name: {"url": f"http://{number}"}
            for number, name in enumerate(["default", "openai", "openai/gpt-4o", "langgenius/openai/openai"])
        }
    )
    found = [
        settings.llm_endpoint(*names)
        for names in (("x", "y"), ("openai", "m"), ("a/b/openai", "gpt-4o"), ("langgenius/openai/openai", "m"))
    ]
    assert [endpoint and endpoint.url for endpoint in found] == [f"http://{number}" for number in range(4)]
    assert endpoints(openai="x").llm_endpoint("other", "m") is None


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("{oops", "ATELIER_LLM_ENDPOINTS: must be a JSON object"),
        ('{"openai": {}}', r"ATELIER_LLM_ENDPOINTS \(openai.url\): Field required"),
        ('{"openai": {"url": "ftp://x"}}', "must begin with http:// or https://"),
        ('{"openai": {"url": "http://x", "modle": "y"}}', r"openai.modle\): Extra inputs"),
    ],
)
def test_a_wrong_setting_is_told_where_it_is_wrong(written: str, sentence: str) -> None:
    with pytest.raises(SettingsInvalid, match=sentence):
        load_settings(llm_endpoints=written)


@pytest.mark.parametrize(
    ("said", "outputs"),
    [
        ('{"a": "x", "n": 2, "l": [1, "2", true]}', {"a": "x", "n": 2, "l": [1, 2, 1]}),
        ('{"a": "x", "n": "2.5"}', {"a": "x", "n": 2.5, "l": []}),
        ('{"a": 5, "n": "many", "l": "no"}', {"a": "", "n": 0, "l": []}),
        ("nothing", {"a": "", "n": 0, "l": []}),
    ],
)
def test_what_can_be_made_of_a_reply_is_an_output(said: str, outputs: dict[str, Any]) -> None:
    work = extractor(("a", "string", True), ("n", "number", False), ("l", "array[number]", False))
    found = work.extracted(said, None)
    assert {name: found[name] for name in outputs} == outputs


def test_a_reply_is_a_success_when_it_is_what_was_asked_for() -> None:
    work = extractor(("a", "string", True), ("b", "bool", False))
    assert work.extracted('{"a": "x", "b": true}', None)["__is_success"] == 1
    assert work.extracted("", '{"a": "x"}')["__is_success"] == 1
    assert work.extracted('{"b": true}', None)["__reason"] == "Parameter a is required"
    assert "for parameter b, expected segment type: boolean" in work.extracted('{"a": "", "b": 1}', None)["__reason"]
    assert work.extracted("?", None)["__reason"].startswith("Failed to extract result")


def test_a_choice_has_to_be_one_of_the_options() -> None:
    work = extractor(("a", "select", True), options=["red", "blue"])
    assert work.schema["properties"]["a"] == {"description": "", "type": "string", "enum": ["red", "blue"]}
    assert work.extracted('{"a": "red"}', None)["__is_success"] == 1
    assert work.extracted('{"a": "green"}', None)["__reason"] == "Invalid `select` value for parameter a"


def test_a_class_is_found_by_its_id_whatever_the_reply_looks_like() -> None:
    classes = [{"id": "1", "name": "one", "label": "First"}, {"id": "2", "name": "two"}]
    how = {"model": model(), "query_variable_selector": ["start", "q"], "classes": classes}
    work = loaded(node("c", "question-classifier", **how), "2").nodes["c"].work
    assert isinstance(work, QuestionClassifier)
    names = {"names": ["one", "two"]}
    second = {"class_name": "two", "class_label": "two", "class_id": "2"}
    for reply in ('{"category_id": "2"}', '```json\n[{"category_id": 2}]\n```', '<think>{"category_id": "1"}</think>'):
        expected = second if "2" in reply else {"class_name": "one", "class_label": "First", "class_id": "1"}
        assert work.chosen(reply, names) == expected


@pytest.mark.parametrize(
    ("asking", "problem"),
    [
        (llm(prompt_template=[{"role": "wizard", "text": "x"}]), "a message has the role 'wizard'"),
        (llm(prompt_template="x"), "prompt_template must be a list of mappings"),
        (
            llm(structured_output_enabled=True, structured_output={"schema": "{"}),
            "structured_output needs a JSON schema",
        ),
        (llm(model="gpt"), "model must be a mapping"),
        (
            node("e", "parameter-extractor", query=["start", "q"], parameters=[{"name": "__reason", "type": "date"}]),
            "__reason and __is_success are reserved; node 'e': parameter '__reason' has the type 'date'",
        ),
        (node("c", "question-classifier", query_variable_selector=["start", "q"]), "classes must have at least one"),
    ],
)
def test_what_can_not_be_asked_is_a_problem(asking: dict[str, Any], problem: str) -> None:
    with pytest.raises(DocumentInvalid) as raised:
        loaded(asking)
    assert problem in raised.value.message


def test_nulls_are_as_good_as_absent() -> None:
    asking = llm(vision=None, context=None, prompt_config=None, memory=None, structured_output=None)
    asking["data"]["model"]["completion_params"] = None
    work: Any = loaded(asking).nodes["llm"].work
    assert (work.vision.selector, work.context, work.schema, work.variables) == (None, None, None, ())
    assert json.dumps(work.model.parameters) == "[]"
