"""Three graphs, on Atelier and on graphon, the engine of Dify: a chain, a fan, and an iteration.

"engine" is the run alone: here from its inputs to its last step, in memory; there from its inputs to its last event.
Each does what it does for every run; a graph of ours is built once for each version, graphon's for each run, as in
Dify. "all of it" is a request over HTTP with its commit on SQLite. graphon stores nothing, and spends most of its time
waiting for its own threads (0.1 s at the end of each run and round), so ratios are to the CPU time that it takes.
"""

from __future__ import annotations

import json
import socket
import time
from itertools import pairwise
from typing import Any

from app.graph.graph import Graph, load_graph
from app.runs.movement import Movement, Settled
from bench.load import Post
from bench.runs import serving
from tests.oracle.drawn import edge, node
from tests.oracle.engines import PYTHON, document, graphon, new_run

INPUTS = {"t": "a", "items": {"all": [f"item {number}" for number in range(200)]}}
Drawn = dict[str, Any]


def main() -> None:
    print("\na run of many nodes against graphon 0.5.1, which Dify runs; ms, ratios to graphon's CPU time")
    if not PYTHON.exists():
        print("left out: graphon needs Python 3.12")
        return
    print(f"{'':>25} {'graphon':>9} {'its CPU':>9} {'engine':>9} {'ratio':>8} {'all of it':>10} {'ratio':>8}")
    _print("chain of 50 templates", _chain(50), 15)
    _print("50 templates in parallel", _fan(50), 15)
    _print("iteration of 200", _iteration(), 1)


def _print(name: str, graph: Drawn, times: int) -> None:
    wall, cpu, engine, whole = _compare(graph, times)
    ratios = f"{engine:>9.2f} {engine / cpu:>7.3f}x {whole:>10.2f} {whole / cpu:>7.3f}x"
    print(f"{name:>25} {wall:>9.2f} {cpu:>9.2f} {ratios}")


def _compare(graph: Drawn, times: int) -> tuple[float, ...]:
    """graphon's time and CPU time, the engine's and the request's: the fastest of each, in ms; they alternate."""
    asked, text = {"graph": graph, "inputs": INPUTS}, json.dumps(document(graph))
    built = load_graph(text)
    body = json.dumps({"inputs": INPUTS, "response_mode": "blocking", "user": "bench"}).encode()
    best = [float("inf")] * 4
    with graphon() as oracle, serving("graphs", text) as (address, key), socket.create_connection(address) as line:
        post = Post(address, "/v1/workflows/run", key, body)
        for _ in range(times):
            took = [*oracle.seconds(asked), _engine_s(built), post.over(line)]
            best = [min(pair) for pair in zip(best, took, strict=True)]
    return tuple(seconds * 1000 for seconds in best)


def _engine_s(graph: Graph) -> float:
    began = time.perf_counter()
    movement = Movement(graph, new_run(INPUTS), (), lambda call: Settled(dict(call.inputs), None))
    movement.begin()
    took = time.perf_counter() - began
    assert movement.run.status == "succeeded", movement.run.error
    return took


def _fields() -> list[Drawn]:
    declared = {"t": "paragraph", "items": "json_object"}
    return [{"variable": name, "label": name, "type": kind} for name, kind in declared.items()]


def _template(node_id: str, selector: list[str], **inside: str) -> Drawn:
    bound = [{"variable": "a", "value_selector": selector}]
    return node(node_id, "template-transform", template="{{ a }}!", variables=bound, **inside)


def _end(*selectors: list[str]) -> Drawn:
    outputs = [{"variable": f"x{n}", "value_selector": selector} for n, selector in enumerate(selectors)]
    return node("end", "end", outputs=outputs)


def _chain(length: int) -> Drawn:
    names = [f"t{number}" for number in range(length)]
    sources = [["start", "t"], *([name, "output"] for name in names)]
    nodes = [_template(name, source) for name, source in zip(names, sources, strict=False)]
    order = ["start", *names, "end"]
    edges = [edge(source, target) for source, target in pairwise(order)]
    return {"nodes": [node("start", "start", variables=_fields()), *nodes, _end(sources[-1])], "edges": edges}


def _fan(width: int) -> Drawn:
    names = [f"t{number}" for number in range(width)]
    nodes = [_template(name, ["start", "t"]) for name in names]
    edges = [edge("start", name) for name in names] + [edge(name, "end") for name in names]
    end = _end(*([name, "output"] for name in names))
    return {"nodes": [node("start", "start", variables=_fields()), *nodes, end], "edges": edges}


def _iteration() -> Drawn:
    settings = {"start_node_id": "first", "error_handle_mode": "terminated"}
    items = ["start", "items", "all"]
    each = node("each", "iteration", iterator_selector=items, output_selector=["t", "output"], **settings)
    inside = [
        node("first", "iteration-start", iteration_id="each"),
        _template("t", ["each", "item"], iteration_id="each"),
    ]
    edges = [edge("start", "each"), edge("first", "t"), edge("each", "end")]
    start = node("start", "start", variables=_fields())
    return {"nodes": [start, each, *inside, _end(["each", "output"])], "edges": edges}


if __name__ == "__main__":
    main()
