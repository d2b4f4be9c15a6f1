"""Workflows that call other apps of their server, as Dify's workflow tools do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.servers import Atelier
from tests.streams import begin, facts, follow
from tests.unit.drawing import draw, end, field, inside, iteration, node, start, template


def calling(app: str, **given: Any) -> dict[str, Any]:
    """A tool node that calls the app, named as an export has it."""
    return node(
        "call",
        "tool",
        provider_id="0f8a3ac2-0c0e-4a2e-9a39-2bd7e7a1b7a1",
        provider_type="workflow",
        provider_name=app,
        tool_name=app,
        tool_configurations={},
        tool_parameters={key: {"type": "mixed", "value": value} for key, value in given.items()},
    )


@pytest.fixture(scope="module")
def publish(web: Atelier, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("called")

    def published(name: str, nodes: list[dict[str, Any]], edges: list[str]) -> str:
        document: Path = folder / f"{name}.yml"
        document.write_text(draw(nodes, edges))
        return web.app_key(document, name)

    greet = [start(field("name", required=True)), template("hi", "Hi {{ n }}!", n=["start", "name"])]
    published("greeter", [*greet, end(greeting=["hi", "output"])], ["start > hi", "hi > end"])
    published("endless", [start(), calling("endless"), end(x=["call", "text"])], ["start > call", "call > end"])
    return published


def done(web: Atelier, key: str, inputs: dict[str, Any]) -> dict[str, Any]:
    return dict(web.run(inputs, key).json()["data"])


def test_a_called_app_gives_what_its_end_gives(web: Atelier, publish: Any) -> None:
    outputs = end(text=["call", "text"], json=["call", "json"], greeting=["call", "greeting"])
    nodes = [start(field("who")), calling("greeter", name="{{#start.who#}}"), outputs]
    run = done(web, publish("caller", nodes, ["start > call", "call > end"]), {"who": "Ada"})
    assert run["status"] == "succeeded", run
    greeting = {"greeting": "Hi Ada!"}
    assert run["outputs"] == {"text": '{"greeting": "Hi Ada!"}', "json": [greeting], **greeting}


def test_its_steps_are_the_runs_but_not_the_streams(web: Atelier, publish: Any) -> None:
    nodes = [start(field("who")), calling("greeter", name="{{#start.who#}}"), end(said=["call", "greeting"])]
    key = publish("quiet caller", nodes, ["start > call", "call > end"])
    run_id, _ = begin(web, {"who": "Ada"}, key)
    with follow(web, run_id, key=key, after=0) as stream:
        told = [(frame.name, (frame.event or {})["data"].get("node_id")) for frame in facts(stream.iter_lines())]
    assert [node_id for name, node_id in told if name == "node_finished"] == ["start", "call", "end"]
    path = f"/v1/workflows/run/{run_id}?include=steps"
    steps = web.http.get(path, headers=web.bearer(key)).json()["steps"]
    assert [step["node_id"] for step in steps] == ["start", "call", "start", "hi", "end", "end"]


def test_an_app_can_be_called_in_every_round(web: Atelier, publish: Any) -> None:
    each = iteration("each", ["start", "given", "names"], ["call", "greeting"])
    greeted = inside(each, calling("greeter", name="{{#each.item#}}"))
    nodes = [start(field("given", "json_object")), *greeted, end(all=["each", "output"])]
    key = publish("many callers", nodes, ["start > each", "eachstart > call", "each > end"])
    run = done(web, key, {"given": {"names": ["Ada", "Bob"]}})
    assert run["outputs"] == {"all": ["Hi Ada!", "Hi Bob!"]}


def test_what_it_refuses_is_the_callers_failure(web: Atelier, publish: Any) -> None:
    nodes = [start(), calling("greeter"), end(said=["call", "greeting"])]
    run = done(web, publish("mute caller", nodes, ["start > call", "call > end"]), {})
    assert (run["status"], run["error"]) == ("failed", "name is required in input form")


def test_an_app_that_is_not_there_is_named(web: Atelier, publish: Any) -> None:
    nodes = [start(), calling("nobody"), end(said=["call", "text"])]
    run = done(web, publish("lonely caller", nodes, ["start > call", "call > end"]), {})
    assert run["status"] == "failed"
    assert run["error"].startswith("No app of this server is called 'nobody': publish the workflow under that name")


def test_calls_inside_calls_have_an_end(web: Atelier, publish: Any) -> None:
    nodes = [start(), calling("endless"), end(said=["call", "text"])]
    run = done(web, publish("dizzy caller", nodes, ["start > call", "call > end"]), {})
    assert (run["status"], run["error"]) == ("failed", "Max workflow call depth 5 reached.")
