"""Iterations and loops as a client hears of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.servers import Atelier
from tests.streams import begin, facts, follow
from tests.unit.drawing import condition, draw, end, field, inside, iteration, loop, start, template

Told = list[tuple[str, dict[str, Any]]]
"""(name, data) of a run's events."""


def for_each() -> str:
    """Writes a line for each item."""
    each = inside(
        iteration("each", ["start", "given", "items"], ["line", "output"], title="For each"),
        template("line", "{{ n }}: {{ item }}", item=["each", "item"], n=["each", "index"]),
    )
    nodes = [start(field("given", "json_object")), *each, end(lines=["each", "output"])]
    return draw(nodes, ["start > each", "eachstart > line", "each > end"])


def again(until: str) -> str:
    """Goes round until its word is the one, at most five times."""
    done = [condition(["count", "output"], "is", until)]
    rounds = inside(loop("again", 5, done, word="again"), template("count", "{{ w }}", w=["again", "word"]))
    nodes = [start(), *rounds, end(word=["again", "word"], rounds=["again", "loop_round"])]
    return draw(nodes, ["start > again", "againstart > count", "again > end"])


@pytest.fixture(scope="module")
def keys(web: Atelier, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Keys of apps that go round."""
    folder = tmp_path_factory.mktemp("documents")
    documents = {"lines": for_each(), "once": again("again"), "five times": again("never")}
    made = {}
    for name, text in documents.items():
        document = folder / f"{name}.yml"
        document.write_text(text)
        made[name] = web.app_key(document, name)
    return made


def told(web: Atelier, key: str, inputs: dict[str, Any]) -> Told:
    run_id, _ = begin(web, inputs, key)
    with follow(web, run_id, key=key, after=0) as stream:
        events = [frame.event or {} for frame in facts(stream.iter_lines())]
    return [(event["event"], event["data"]) for event in events]


def test_an_iteration_is_told_round_by_round(web: Atelier, keys: dict[str, str]) -> None:
    seen = told(web, keys["lines"], {"given": {"items": ["a", "b"]}})
    of_iteration = [name for name, data in seen if data.get("node_id") in ("each", "line")]
    assert of_iteration == [
        "node_started",
        "iteration_started",
        *["iteration_next", "node_started", "node_finished"] * 2,
        "iteration_completed",
    ]
    started = next(data for name, data in seen if name == "iteration_started")
    assert list(started) == [
        "id",
        "node_id",
        "node_type",
        "title",
        "created_at",
        "extras",
        "metadata",
        "inputs",
        "inputs_truncated",
    ]
    assert (started["id"], started["metadata"]) == ("each", {"iteration_length": 2})
    assert started["inputs"] == {"iterator_selector": ["a", "b"]}
    assert [data["index"] for name, data in seen if name == "iteration_next"] == [0, 1]
    assert seen[-1][1]["outputs"] == {"lines": ["0: a", "1: b"]}


def test_inner_nodes_say_where_they_are(web: Atelier, keys: dict[str, str]) -> None:
    seen = told(web, keys["lines"], {"given": {"items": ["a", "b"]}})
    inner = [(name, data) for name, data in seen if data.get("node_id") == "line"]
    assert {(data["iteration_id"], data["loop_id"]) for _, data in inner} == {("each", None)}
    ended = [data["execution_metadata"] for name, data in inner if name == "node_finished"]
    assert ended == [{"iteration_id": "each", "iteration_index": number} for number in (0, 1)]


def test_an_iteration_s_end_has_dify_s_fields(web: Atelier, keys: dict[str, str]) -> None:
    seen = told(web, keys["lines"], {"given": {"items": ["a", "b"]}})
    done = next(data for name, data in seen if name == "iteration_completed")
    assert list(done)[:8] == [
        "id",
        "node_id",
        "node_type",
        "title",
        "outputs",
        "outputs_truncated",
        "created_at",
        "extras",
    ]
    assert (done["status"], done["error"], done["steps"], done["outputs"]) == (
        "succeeded",
        None,
        2,
        {"output": ["0: a", "1: b"]},
    )
    assert list(done["execution_metadata"]["iteration_duration_map"]) == ["0", "1"]


def test_a_list_without_items_has_no_rounds(web: Atelier, keys: dict[str, str]) -> None:
    seen = told(web, keys["lines"], {"given": {"items": []}})
    assert [name for name, data in seen if data.get("node_id") == "each"] == [
        "node_started",
        "iteration_started",
        "iteration_completed",
    ]
    assert seen[-1][1]["outputs"] == {"lines": []}


def test_what_is_no_list_fails_with_dify_s_words(web: Atelier, keys: dict[str, str]) -> None:
    seen = told(web, keys["lines"], {"given": {"items": "a"}})
    assert (seen[-1][1]["status"], seen[-1][1]["error"]) == (
        "failed",
        "invalid iterator value: a, please provide a list.",
    )
    missing = told(web, keys["lines"], {"given": {}})
    assert missing[-1][1]["error"] == "iterator variable ['start', 'given', 'items'] not found"


def of_node(seen: Told, node_id: str) -> list[str]:
    return [name for name, data in seen if data.get("node_id") == node_id]


def test_a_loop_that_breaks_after_its_round_tells_of_no_other(web: Atelier, keys: dict[str, str]) -> None:
    seen = told(web, keys["once"], {})
    assert of_node(seen, "again") == ["node_started", "loop_started", "loop_completed"]
    assert seen[-1][1]["outputs"] == {"word": "again", "rounds": 1}


def test_a_loop_tells_a_round_once_another_may_follow(web: Atelier, keys: dict[str, str]) -> None:
    seen = told(web, keys["five times"], {})
    rounds = [(data["index"], data["pre_loop_output"]) for name, data in seen if name == "loop_next"]
    assert rounds == [(number, {"word": "again", "loop_round": number}) for number in range(1, 6)]
    done = next(data for name, data in seen if name == "loop_completed")
    assert (done["inputs"], done["steps"]) == ({"loop_count": 5, "word": "again"}, 5)
    assert done["execution_metadata"]["completed_reason"] == "loop_completed"
    assert done["execution_metadata"]["loop_variable_map"]["4"] == {"word": "again"}


def test_the_run_object_lists_every_round_s_steps(web: Atelier, keys: dict[str, str]) -> None:
    key = keys["lines"]
    run_id, _ = begin(web, {"given": {"items": ["a", "b"]}}, key)
    path = f"/v1/workflows/run/{run_id}"
    run = web.http.get(path, params={"include": "steps"}, headers=web.bearer(key)).json()
    steps = [(step["index"], step["node_id"], step["status"]) for step in run["steps"]]
    assert [node_id for _, node_id, _ in steps] == ["start", "each", "line", "line", "end"]
    assert {status for _, _, status in steps} == {"succeeded"}
    assert [step["scope"] for step in run["steps"]][1:4] == [
        [],
        [{"node_id": "each", "round": 0}],
        [{"node_id": "each", "round": 1}],
    ]
