"""Workflows that ask language models, over HTTP, with a server of such a model in a process of its own."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.databases import PostgresDatabases
from tests.llm_server import LlmServer, llm_server
from tests.servers import ROOT, Atelier, running
from tests.streams import Frame, begin, facts, follow, stop
from tests.unit.drawing import (
    branch,
    condition,
    draw,
    end,
    field,
    inside,
    iteration,
    llm,
    model,
    node,
    start,
    template,
    tool,
)

PAINTER = {"worker_module": "tests.chaos.painter"}
ASKED = field("q", "paragraph")


@pytest.fixture(scope="module")
def model_server() -> Iterator[LlmServer]:
    with llm_server() as server:
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, model_server: LlmServer) -> Iterator[Atelier]:
    with running(tmp_path_factory.mktemp("llm"), **PAINTER, llm_endpoints=model_server.endpoints()) as atelier:
        atelier.until_ready()
        yield atelier


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atelier]:
    """A server without any endpoint."""
    with running(tmp_path_factory.mktemp("bare"), **PAINTER) as atelier:
        yield atelier


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, model_server: LlmServer) -> Iterator[Atelier]:
    """A server with an endpoint for each of several providers; that of `openai` can do little."""
    url = f"{model_server.url}/v1"
    plain = {"vision": False, "tools": False, "structured_output": "prompt", "stream_usage": False}
    endpoints = {
        "default": {"url": url, "model": "fallback"},
        "openai": {"url": url, "models": {"gpt-4o": "local-large"}, **plain},
        "openai/gpt-4o-mini": {"url": url, "model": "local-small"},
        "nowhere": {"url": "http://127.0.0.1:9/v1"},
        "silent": {"url": url, "timeout_s": 0.3},
    }
    with running(tmp_path_factory.mktemp("several"), **PAINTER, llm_endpoints=json.dumps(endpoints)) as atelier:
        yield atelier


@pytest.fixture
def asked(model_server: LlmServer) -> LlmServer:
    """The model's server, which has forgotten what it was asked before."""
    model_server.forget()
    return model_server


def publish(server: Atelier, folder: Path, nodes: list[dict[str, Any]], edges: list[str], **workflow: Any) -> str:
    """A key of an app of its own."""
    document = folder / f"{folder.name}.yml"
    document.write_text(draw(nodes, edges, **workflow))
    printed = server.cli("workflows", "import", str(document))
    return printed.rpartition("Key: ")[2].split()[0]


def saying(server: Atelier, folder: Path, **data: Any) -> str:
    """A key of start → llm → end."""
    return publish(
        server,
        folder,
        [start(ASKED), llm(prompt="{{#start.q#}}", **data), end(text=["llm", "text"])],
        ["start > llm", "llm > end"],
    )


def answer_of(server: Atelier, key: str, **inputs: Any) -> dict[str, Any]:
    return dict(server.run(inputs, key).json()["data"])


def streamed(server: Atelier, key: str, **inputs: Any) -> list[Frame]:
    return list(facts(server.run(inputs, key, response_mode="streaming").text.split("\n")))


def finished(seen: list[Frame], node_id: str) -> dict[str, Any]:
    """The data of a node's end."""
    named = (frame.event for frame in seen if frame.name == "node_finished")
    return next(dict(event["data"]) for event in named if event and event["data"]["node_id"] == node_id)


def spoken(seen: list[Frame], node_id: str = "llm") -> list[str]:
    """The chunks of a node's text."""
    told = (frame.event["data"] for frame in seen if frame.event and frame.name == "text_chunk")
    return [chunk["text"] for chunk in told if chunk["from_variable_selector"] == [node_id, "text"]]


def test_a_model_is_asked_and_its_answer_is_the_outcome(server: Atelier, asked: LlmServer, tmp_path: Path) -> None:
    key = saying(server, tmp_path, model=model(temperature=0.2, max_output_tokens=9, top_k=4))
    done = answer_of(server, key, q="Hello, you")
    assert (done["status"], done["outputs"]) == ("succeeded", {"text": "Hello, you"})
    (request,) = asked.asked
    assert request["authorization"] == "Bearer sk-secret"
    assert request["body"]["messages"] == [{"role": "user", "content": "Hello, you"}]
    kept = {name: request["body"].get(name) for name in ("model", "temperature", "max_tokens", "top_k")}
    assert kept == {"model": "echo", "temperature": 0.2, "max_tokens": 9, "top_k": None}


def test_tokens_are_counted_for_the_node_and_for_the_run(server: Atelier, tmp_path: Path) -> None:
    nodes = [start(ASKED), llm("a", "{{#start.q#}}"), llm("b", "{{#a.text#}}"), end(text=["b", "text"])]
    key = publish(server, tmp_path, nodes, ["start > a", "a > b", "b > end"])
    seen = streamed(server, key, q="hi there")
    told = finished(seen, "a")
    assert told["execution_metadata"]["total_tokens"] == told["outputs"]["usage"]["total_tokens"] == 12
    end_of_run = seen[-1].event["data"]  # type: ignore[index]
    assert end_of_run["total_tokens"] == 24
    assert (
        server.http.get(f"/v1/workflows/run/{end_of_run['id']}", headers=server.bearer(key)).json()["total_tokens"]
        == 24
    )


def test_prompts_are_told_as_process_data_and_keys_nowhere(server: Atelier, tmp_path: Path) -> None:
    key = saying(server, tmp_path)
    seen = streamed(server, key, q="hi")
    told = finished(seen, "llm")
    assert told["process_data"]["prompts"] == [{"role": "user", "text": "hi", "files": []}]
    assert (told["process_data"]["model_provider"], told["process_data"]["finish_reason"]) == ("openai", "stop")
    assert told["inputs"] == {}
    assert "sk-secret" not in json.dumps([frame.event for frame in seen])


def test_the_text_is_told_while_the_model_still_speaks(server: Atelier, asked: LlmServer, tmp_path: Path) -> None:
    key = saying(server, tmp_path, model=model("gated"))
    run_id, _ = begin(server, {"q": "a tale"}, key)
    with follow(server, run_id, key=key, after=0) as answer:
        frames = facts(answer.iter_lines())
        before = next(frame for frame in frames if frame.name == "text_chunk")
        assert before.event["data"]["text"] == "Once upon "  # type: ignore[index]
        asked.open_gate()
        rest = list(frames)
    assert "".join(spoken(rest)) == "a time."
    assert rest[-1].event["data"]["outputs"] == {"text": "Once upon a time."}  # type: ignore[index]
    names = [frame.name for frame in rest]
    assert names.index("text_chunk") < names.index("node_finished")


def test_an_answer_speaks_with_the_model_too(server: Atelier, asked: LlmServer, tmp_path: Path) -> None:
    answers = node("answer", "answer", answer="Hear: {{#llm.text#}} The end.")
    nodes = [start(ASKED), llm(prompt="x", name="gated"), answers]
    key = publish(server, tmp_path, nodes, ["start > llm", "llm > answer"])
    run_id, _ = begin(server, {"q": "x"}, key)
    with follow(server, run_id, key=key, after=0) as answer:
        frames = facts(answer.iter_lines())
        assert spoken([next(frame for frame in frames if spoken([frame]))]) == ["Once upon "]
        asked.open_gate()
        rest = list(frames)
    assert "".join(spoken(rest)) == "a time."
    assert rest[-1].event["data"]["outputs"]["answer"] == "Hear: Once upon a time. The end."  # type: ignore[index]


def test_the_parts_of_a_text_are_one_text_for_everybody_who_reads(server: Atelier, tmp_path: Path) -> None:
    key = saying(server, tmp_path, model=model("slow"))
    seen = streamed(server, key, q="count")
    whole = "".join(f"{number} " for number in range(20))
    assert "".join(spoken(seen)) == whole
    took_s = seen[-1].event["data"]["elapsed_time"]  # type: ignore[index]
    assert 1 < len(spoken(seen)) <= 5 * took_s + 2
    with follow(server, seen[-1].event["data"]["id"], key=key, after=0) as answer:  # type: ignore[index]
        again = list(facts(answer.iter_lines()))
    assert spoken(again) == spoken(seen)


def test_another_server_hears_the_text_while_the_model_still_speaks(
    postgres: PostgresDatabases, asked: LlmServer, tmp_path: Path
) -> None:
    shared = {"DATABASE_URL": postgres.new()}
    with (
        running(tmp_path / "house", **PAINTER, env_too=shared, llm_endpoints=asked.endpoints()) as one,
        running(tmp_path / "house", env_too=shared, worker="none") as two,
    ):
        key = saying(one, tmp_path, model=model("gated"))
        run_id, _ = begin(two, {"q": "x"}, key)
        with follow(two, run_id, key=key, after=0) as answer:
            frames = facts(answer.iter_lines())
            assert spoken([next(frame for frame in frames if frame.name == "text_chunk")]) == ["Once upon "]
            asked.open_gate()
            assert "".join(spoken(list(frames))) == "a time."


def test_a_text_waits_for_its_turn(server: Atelier, asked: LlmServer, tmp_path: Path) -> None:
    """The end names a first, so what b says is held back until a has ended."""
    nodes = [start(ASKED), llm("a", "x", "gated"), llm("b", "{{#start.q#}}"), end(a=["a", "text"], b=["b", "text"])]
    key = publish(server, tmp_path, nodes, ["start > a", "start > b", "a > end", "b > end"])
    run_id, _ = begin(server, {"q": "second"}, key)
    with follow(server, run_id, key=key, after=0) as answer:
        frames = facts(answer.iter_lines())
        next(frame for frame in frames if frame.name == "text_chunk")
        asked.open_gate()
        rest = list(frames)
    chunks = [frame.event["data"]["text"] for frame in rest if frame.event and frame.name == "text_chunk"]
    assert "".join(chunks) == "a time.\nsecond"


def test_a_text_on_a_branch_that_is_not_certain_is_not_told(server: Atelier, tmp_path: Path) -> None:
    nodes = [
        start(ASKED),
        llm("a", "{{#start.q#}}"),
        branch("if", true=[condition(["a", "text"], "is", "yes", varType="string")]),
        end("good", text=["a", "text"]),
        end("bad", no=["start", "q"]),
    ]
    key = publish(server, tmp_path, nodes, ["start > a", "a > if", "if true > good", "if false > bad"])
    assert spoken(streamed(server, key, q="no"), "a") == []
    assert spoken(streamed(server, key, q="yes"), "a") == ["yes"]


def test_after_a_lost_worker_the_text_is_told_again_from_its_beginning(
    server: Atelier, asked: LlmServer, tmp_path: Path
) -> None:
    key = saying(server, tmp_path, model=model("second"))
    run_id, _ = begin(server, {"q": "x"}, key)
    with follow(server, run_id, key=key, after=0) as answer:
        frames = facts(answer.iter_lines())
        assert spoken([next(frame for frame in frames if frame.name == "text_chunk")]) == ["Try 1: "]
        worker = server.worker_pid("tests.chaos.painter", "cpu")
        assert worker is not None
        os.kill(worker, signal.SIGKILL)
        rest = list(frames)
    names = [frame.name for frame in rest]
    retried = names.index("node_retry")
    assert spoken(rest[:retried]) == []
    assert "".join(spoken(rest[retried:])) == "Try 2: done."
    assert rest[-1].event["data"]["outputs"] == {"text": "Try 2: done."}  # type: ignore[index]


def test_a_stopped_run_leaves_the_model_alone(server: Atelier, asked: LlmServer, tmp_path: Path) -> None:
    key = saying(server, tmp_path, model=model("gated"))
    run_id, task_id = begin(server, {"q": "x"}, key)
    with follow(server, run_id, key=key, after=0) as answer:
        next(frame for frame in facts(answer.iter_lines()) if frame.name == "text_chunk")
        stop(server, task_id, key)
    server.until("the model's server has noticed", lambda: asked.asked[0]["left"])


def test_without_an_endpoint_the_node_says_how_to_set_one(bare: Atelier, tmp_path: Path) -> None:
    done = answer_of(bare, saying(bare, tmp_path), q="x")
    assert done["status"] == "failed"
    assert "No endpoint is configured for the model 'echo' of the provider 'openai'" in done["error"]
    assert "ATELIER_LLM_ENDPOINTS" in done["error"]


def test_each_model_has_its_own_endpoint(several: Atelier, asked: LlmServer, tmp_path: Path) -> None:
    names = {
        "a": ("langgenius/openai/openai", "gpt-4o"),
        "b": ("openai", "gpt-4o-mini"),
        "c": ("deepseek", "chat"),
    }
    nodes = [llm(each, "x", model=model(name, provider)) for each, (provider, name) in names.items()]
    key = publish(several, tmp_path, [start(ASKED), *nodes, end()], ["start > a", "a > b", "b > c", "c > end"])
    answer_of(several, key, q="x")
    assert [each["body"]["model"] for each in asked.asked] == ["local-large", "local-small", "fallback"]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("keyless", "answers 401: Not with Bearer (hidden)"),
        ("limited", "answers 429: Not with Bearer (hidden)"),
        ("torn", "ended its answer in the middle"),
    ],
)
def test_what_an_endpoint_refuses_is_a_sentence(server: Atelier, tmp_path: Path, name: str, error: str) -> None:
    done = answer_of(server, saying(server, tmp_path, model=model(name)), q="x")
    assert done["status"] == "failed"
    assert error in done["error"]


@pytest.mark.parametrize(
    ("provider", "error"),
    [("nowhere", "http://127.0.0.1:9/v1 can't be reached"), ("silent", "was silent for 0.3 s")],
)
def test_an_endpoint_that_is_not_there_or_silent_is_a_sentence(
    several: Atelier, tmp_path: Path, provider: str, error: str
) -> None:
    key = saying(several, tmp_path, model=model("hanging", provider))
    assert error in answer_of(several, key, q="x")["error"]


def test_a_server_that_does_not_stream_is_understood(server: Atelier, tmp_path: Path) -> None:
    assert answer_of(server, saying(server, tmp_path, model=model("unstreamed")), q="whole")["outputs"] == {
        "text": "whole"
    }


@pytest.mark.parametrize("name", ["thinker", "reasoner"])
def test_thinking_is_kept_apart_or_tagged(server: Atelier, tmp_path: Path, name: str) -> None:
    nodes = [
        start(ASKED),
        llm("llm", "x", name, reasoning_format="separated"),
        llm("tagged", "x", name),
        end(text=["llm", "text"], thought=["llm", "reasoning_content"], tagged=["tagged", "text"]),
    ]
    key = publish(server, tmp_path, nodes, ["start > llm", "llm > tagged", "tagged > end"])
    seen = streamed(server, key, q="x")
    outputs = seen[-1].event["data"]["outputs"]  # type: ignore[index]
    assert (outputs["text"], outputs["thought"]) == ("It is blue.", "Let me see.")
    assert outputs["tagged"] == "<think>\nLet me see.\n</think>\n\nIt is blue."
    assert "".join(spoken(seen)) == "It is blue."


def test_context_jinja_and_roles_make_the_messages(server: Atelier, asked: LlmServer, tmp_path: Path) -> None:
    messages = [
        {"role": "system", "text": "Use this: {{#context#}}"},
        {"role": "user", "text": "", "edition_type": "jinja2", "jinja2_text": "{{ q|upper }}!"},
        {"role": "assistant", "text": ""},
    ]
    key = saying(
        server,
        tmp_path,
        prompt_template=messages,
        prompt_config={"jinja2_variables": [{"variable": "q", "value_selector": ["start", "q"]}]},
        context={"enabled": True, "variable_selector": ["start", "q"]},
    )
    assert answer_of(server, key, q="known")["status"] == "succeeded"
    assert asked.asked[0]["body"]["messages"] == [
        {"role": "system", "content": "Use this: known"},
        {"role": "user", "content": "KNOWN!"},
    ]


def test_a_schema_is_asked_for_and_the_object_is_an_output(server: Atelier, asked: LlmServer, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    nodes = [
        start(ASKED),
        llm(
            prompt="|{{#start.q#}}|", name="json", structured_output_enabled=True, structured_output={"schema": schema}
        ),
        end(city=["llm", "structured_output", "city"]),
    ]
    key = publish(server, tmp_path, nodes, ["start > llm", "llm > end"])
    assert answer_of(server, key, q='{"city": "Bonn",}')["outputs"] == {"city": "Bonn"}
    assert asked.asked[0]["body"]["response_format"]["json_schema"]["schema"] == schema
    assert "Failed to parse structured output" in answer_of(server, key, q="no city")["error"]


def test_parameters_are_extracted_by_a_call_and_by_text(server: Atelier, asked: LlmServer, tmp_path: Path) -> None:
    parameters = [
        {"name": "city", "type": "string", "description": "where", "required": True},
        {"name": "days", "type": "number", "description": "how long", "required": False},
    ]

    def extractor(node_id: str, name: str, mode: str) -> dict[str, Any]:
        how = {"model": model(name), "query": ["start", "q"], "parameters": parameters, "reasoning_mode": mode}
        return node(node_id, "parameter-extractor", **how)

    nodes = [
        start(ASKED),
        extractor("call", "caller", "function_call"),
        extractor("text", "json", "prompt"),
        end(a=["call", "city"], b=["text", "days"], ok=["text", "__is_success"], why=["text", "__reason"]),
    ]
    key = publish(server, tmp_path, nodes, ["start > call", "call > text", "text > end"])
    done = answer_of(server, key, q='|{"city": "Bonn", "days": "3"}|')["outputs"]
    assert (done["a"], done["b"], done["ok"]) == ("Bonn", 3, 0)
    assert done["why"].startswith("Invalid value for parameter days")
    assert asked.asked[0]["body"]["tools"][0]["function"]["parameters"]["required"] == ["city"]
    good = answer_of(server, key, q='|{"city": "Bonn"}|')["outputs"]
    assert good == {"a": "Bonn", "b": 0, "ok": 1, "why": None}


def test_an_extractor_whose_model_fails_says_so_in_its_outputs(server: Atelier, tmp_path: Path) -> None:
    how = {"model": model("keyless"), "query": ["start", "q"], "parameters": [], "reasoning_mode": "prompt"}
    nodes = [start(ASKED), node("e", "parameter-extractor", **how), end(x=["e", "__reason"])]
    seen = streamed(server, publish(server, tmp_path, nodes, ["start > e", "e > end"]), q="x")
    told = finished(seen, "e")
    assert told["status"] == "failed"
    assert (told["outputs"]["__is_success"], told["outputs"]["__reason"]) == (0, "Failed to invoke model")


@pytest.mark.parametrize(
    ("said", "way"),
    [
        ('{"category_id": "2", "category_name": "pay"}', "payment"),
        ('{"category_id": "9"}', "delivery"),
        ("none", "delivery"),
    ],
)
def test_a_question_takes_the_way_of_its_class(server: Atelier, tmp_path: Path, said: str, way: str) -> None:
    classes = [{"id": "1", "name": "delivery"}, {"id": "2", "name": "payment"}]
    how = {"model": model("classify"), "query_variable_selector": ["start", "q"], "classes": classes}
    nodes = [
        start(ASKED),
        node("sort", "question-classifier", **(how | {"instruction": "Answer: |{{#start.q#}}|"})),
        template("one", "1: {{ n }}", n=["sort", "class_name"]),
        template("two", "2: {{ n }}", n=["sort", "class_name"]),
        end("e1", way=["sort", "class_name"], text=["one", "output"]),
        end("e2", way=["sort", "class_name"], text=["two", "output"]),
    ]
    edges = ["start > sort", "sort 1 > one", "sort 2 > two", "one > e1", "two > e2"]
    done = answer_of(server, publish(server, tmp_path, nodes, edges), q=said)["outputs"]
    assert done["way"] == way
    assert done["text"].endswith(f": {way}")


def test_the_translated_workflow_paints_the_translation(server: Atelier, asked: LlmServer) -> None:
    key = server.app_key(ROOT / "workflows" / "text-to-image-translated.yml")
    done = answer_of(server, key, prompt="ein roter Kreis", steps=2)
    assert (done["status"], done["total_steps"], done["total_tokens"]) == ("succeeded", 5, 12)
    assert len(done["outputs"]["files"]) == 1
    assert "ein roter Kreis" in asked.asked[0]["body"]["messages"][-1]["content"]


def test_the_translated_workflow_paints_the_prompt_itself_without_an_endpoint(bare: Atelier) -> None:
    key = bare.app_key(ROOT / "workflows" / "text-to-image-translated.yml")
    done = answer_of(bare, key, prompt="ein roter Kreis", steps=2)
    assert (done["status"], done["total_steps"], done["total_tokens"]) == ("succeeded", 5, 0)
    assert len(done["outputs"]["files"]) == 1
    assert done["outputs"]["prompt"] == "ein roter Kreis"


def test_the_translated_workflow_paints_the_prompt_itself_when_the_model_fails(
    several: Atelier, tmp_path: Path
) -> None:
    document = (ROOT / "workflows" / "text-to-image-translated.yml").read_text()
    broken = tmp_path / "broken.yml"
    broken.write_text(document.replace("langgenius/openai/openai", "nowhere"))
    done = answer_of(several, several.app_key(broken), prompt="ein roter Kreis", steps=2)
    assert (done["status"], done["total_steps"]) == ("partial-succeeded", 5)
    assert done["outputs"]["prompt"] == "ein roter Kreis"


def test_a_retry_that_the_document_wants_tells_the_text_again(
    server: Atelier, asked: LlmServer, tmp_path: Path
) -> None:
    retry = {"retry_enabled": True, "max_retries": 1, "retry_interval": 10}
    key = saying(server, tmp_path, model=model("cut once"), retry_config=retry)
    seen = streamed(server, key, q="x")
    names = [frame.name for frame in seen]
    retried = names.index("node_retry")
    assert spoken(seen[:retried]) == ["Try 1: "]
    assert "".join(spoken(seen[retried:])) == "Try 2: done."
    assert seen[-1].event["data"]["status"] == "succeeded"  # type: ignore[index]


def test_a_default_value_takes_the_place_of_a_text_that_broke_off(server: Atelier, tmp_path: Path) -> None:
    default = [{"key": "text", "type": "string", "value": "instead"}]
    key = saying(server, tmp_path, model=model("torn"), error_strategy="default-value", default_value=default)
    seen = streamed(server, key, q="words")
    assert spoken(seen)[-1] == "instead"
    assert seen[-1].event["data"]["outputs"] == {"text": "instead"}  # type: ignore[index]


def test_models_that_are_asked_in_rounds_speak_to_nobody_and_are_counted(server: Atelier, tmp_path: Path) -> None:
    rounds = inside(
        iteration("each", ["split", "parameters"], ["llm", "text"]), llm(prompt="Say {{#each.item#}}", name="echo")
    )
    words = {"name": "parameters", "type": "array[string]", "description": "", "required": True}
    how = {"model": model("json"), "query": ["start", "q"], "reasoning_mode": "prompt", "parameters": [words]}
    nodes = [start(ASKED), node("split", "parameter-extractor", **how), *rounds, end(texts=["each", "output"])]
    edges = ["start > split", "split > each", "eachstart > llm", "each > end"]
    seen = streamed(server, publish(server, tmp_path, nodes, edges), q='|{"parameters": ["a", "b"]}|')
    run = seen[-1].event["data"]  # type: ignore[index]
    assert (run["outputs"], run["total_tokens"]) == ({"texts": ["Say a", "Say b"]}, 36)
    assert spoken(seen) == []
    assert finished(seen, "llm")["execution_metadata"]["iteration_index"] == 0


def test_a_model_is_shown_the_pictures_of_a_step_before_it(server: Atelier, asked: LlmServer, tmp_path: Path) -> None:
    sees = {"enabled": True, "configs": {"variable_selector": ["paint", "files"], "detail": "low"}}
    nodes = [
        start(ASKED),
        tool(prompt="{{#start.q#}}", settings={"steps": 1}),
        llm(prompt="What is it?", vision=sees),
        end(text=["llm", "text"]),
    ]
    key = publish(server, tmp_path, nodes, ["start > paint", "paint > llm", "llm > end"])
    seen = streamed(server, key, q="a red circle")
    picture, text = asked.asked[0]["body"]["messages"][0]["content"]
    assert picture["image_url"]["detail"] == "low"
    assert picture["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert text == {"type": "text", "text": "What is it?"}
    (shown,) = finished(seen, "llm")["inputs"]["#files#"]
    assert shown["mime_type"] == "image/png"


def test_a_model_without_eyes_is_shown_no_pictures(several: Atelier, asked: LlmServer, tmp_path: Path) -> None:
    sees = {"enabled": True, "configs": {"variable_selector": ["paint", "files"]}}
    nodes = [start(ASKED), tool(prompt="x", settings={"steps": 1}), llm(prompt="hm", vision=sees), end()]
    key = publish(several, tmp_path, nodes, ["start > paint", "paint > llm", "llm > end"])
    assert answer_of(several, key, q="x")["status"] == "succeeded"
    assert asked.asked[0]["body"]["messages"] == [{"role": "user", "content": "hm"}]


def test_a_server_without_schemas_and_functions_is_told_in_words(
    several: Atelier, asked: LlmServer, tmp_path: Path
) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "number"}}}
    how = {"model": model("json"), "query": ["start", "q"], "reasoning_mode": "function_call"}
    how["parameters"] = [{"name": "a", "type": "number", "description": "", "required": True}]
    nodes = [
        start(ASKED),
        llm(prompt="{{#start.q#}}", name="json", structured_output_enabled=True, structured_output={"schema": schema}),
        node("e", "parameter-extractor", **how),
        end(one=["llm", "structured_output", "a"], two=["e", "a"]),
    ]
    key = publish(several, tmp_path, nodes, ["start > llm", "llm > e", "e > end"])
    assert answer_of(several, key, q='|{"a": 4}|')["outputs"] == {"one": 4, "two": 4}
    for request in asked.asked:
        assert "JSON schema" in request["body"]["messages"][0]["content"]
        assert not request["body"].keys() & {"response_format", "tools", "stream_options"}
