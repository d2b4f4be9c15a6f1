"""Draws workflow documents for the tests: `draw([start(), end()], ["start > end"])` is the text of a whole one."""

from __future__ import annotations

import json
from typing import Any


def node(node_id: str, kind: str, **data: Any) -> dict[str, Any]:
    return {"id": node_id, "type": "custom", "data": {"type": kind, "title": data.pop("title", ""), **data}}


def start(*variables: dict[str, Any], node_id: str = "start") -> dict[str, Any]:
    return node(node_id, "start", variables=list(variables))


def field(variable: str, kind: str = "text-input", **rest: Any) -> dict[str, Any]:
    return {"variable": variable, "label": variable, "type": kind, **rest}


def template(node_id: str, text: str = "", **variables: list[str]) -> dict[str, Any]:
    bindings = [{"variable": name, "value_selector": selector} for name, selector in variables.items()]
    return node(node_id, "template-transform", template=text, variables=bindings)


def end(node_id: str = "end", **outputs: list[str]) -> dict[str, Any]:
    entries = [{"variable": name, "value_selector": selector} for name, selector in outputs.items()]
    return node(node_id, "end", outputs=entries)


def condition(selector: list[str], operator: str, value: Any = None, **rest: Any) -> dict[str, Any]:
    return {"variable_selector": selector, "comparison_operator": operator, "value": value, **rest}


def branch(node_id: str, **cases: list[dict[str, Any]]) -> dict[str, Any]:
    entries = [{"case_id": name, "logical_operator": "and", "conditions": held} for name, held in cases.items()]
    return node(node_id, "if-else", cases=entries)


def tool(node_id: str = "paint", settings: dict[str, Any] | None = None, **parameters: Any) -> dict[str, Any]:
    return node(
        node_id,
        "tool",
        provider_id="atelier/diffusion",
        tool_name="text_to_image",
        tool_configurations=settings or {},
        tool_parameters=parameters,
    )


def model(name: str = "echo", provider: str = "openai", **params: Any) -> dict[str, Any]:
    return {"provider": provider, "name": name, "mode": "chat", "completion_params": params}


def llm(node_id: str = "llm", prompt: str = "", name: str = "echo", **data: Any) -> dict[str, Any]:
    """A node that asks a model with one message of the user's."""
    message = {"id": "m", "role": "user", "text": prompt}
    given = {"model": model(name), "prompt_template": [message], "context": {"enabled": False}}
    return node(node_id, "llm", **(given | data))


def iteration(node_id: str, over: list[str], output: list[str], **more: Any) -> dict[str, Any]:
    return node(
        node_id, "iteration", iterator_selector=over, output_selector=output, start_node_id=f"{node_id}start", **more
    )


def loop(node_id: str, count: int, until: list[dict[str, Any]] | None = None, **variables: Any) -> dict[str, Any]:
    """`variables` are constants: texts or numbers."""
    return node(
        node_id,
        "loop",
        loop_count=count,
        break_conditions=until or [],
        logical_operator="and",
        loop_variables=[_loop_variable(name, value) for name, value in variables.items()],
        start_node_id=f"{node_id}start",
    )


def _loop_variable(name: str, value: Any) -> dict[str, Any]:
    kind = "string" if isinstance(value, str) else "number"
    return {"label": name, "var_type": kind, "value_type": "constant", "value": value}


def inside(container: dict[str, Any], *nodes: dict[str, Any]) -> list[dict[str, Any]]:
    """The container with its mark of where rounds begin, and what is inside it; edges begin at `<id>start`."""
    kind = container["data"]["type"]
    owner, key = container["id"], f"{kind}_id"
    mark = {"id": f"{owner}start", "type": f"custom-{kind}-start", "data": {"type": f"{kind}-start", "title": ""}}
    for inner in (mark, *nodes):
        inner["data"].setdefault(key, owner)
        inner.setdefault("parentId", owner)
    return [container, mark, *nodes]


def draw(nodes: list[dict[str, Any]], edges: list[str], **workflow: Any) -> str:
    """`edges` read "source > target" or "source handle > target"."""
    graph = {"nodes": nodes, "edges": [_edge(text) for text in edges]}
    return json.dumps(
        {
            "version": "0.6.0",
            "kind": "app",
            "app": {"name": "Drawn", "mode": "workflow"},
            "workflow": {"graph": graph, **workflow},
        }
    )


def _edge(text: str) -> dict[str, Any]:
    left, target = text.split(" > ")
    source, _, handle = left.partition(" ")
    return {"id": text, "source": source, "target": target} | ({"sourceHandle": handle} if handle else {})
