"""What a run says while it runs: the values of its end nodes as text chunks, each as soon as it is certain."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import msgspec

from app.domain.artifact import is_artifact
from app.graph.graph import Graph
from app.graph.plan import StepState, has_passed, skipped_nodes
from app.graph.selectors import MISSING, Selector, text_of
from app.graph.values import Value, is_file_list, type_of
from app.graph.variables import VariablePool


class TextChunk(msgspec.Struct, frozen=True):
    """A value of an end node, or the line break before it; `markdown` is its text."""

    selector: Selector
    value: Value


def due_chunks(graph: Graph, states: Mapping[str, StepState], pool: VariablePool, released: int) -> list[TextChunk]:
    """The chunks that may be told now, after the `released` ones that were.

    A run's chunks have one order from its beginning to its end: end nodes in graph order, each one's variables as the
    document lists them. The first chunk that is uncertain holds back all that follow.
    """
    chunks = islice(_certain_chunks(graph, states, pool), released, None)
    return [chunk for chunk in chunks if chunk.value is not MISSING]


def awaited_selector(graph: Graph, states: Mapping[str, StepState], pool: VariablePool) -> Selector | None:
    """The value that is to be told next, and that a step has still to give; None where the way is not certain yet."""
    last = next(iter(deque(_certain_chunks(graph, states, pool), maxlen=1)), None)
    return last.selector if last is not None and last.value is MISSING else None


def _certain_chunks(graph: Graph, states: Mapping[str, StepState], pool: VariablePool) -> Iterator[TextChunk]:
    """The chunks as far as they are certain; the last one may wait for its value, which is then MISSING."""
    skipped = skipped_nodes(graph, states)

    def is_open(node_id: str) -> bool:
        state = states.get(node_id)
        return node_id not in skipped and (state is None or not has_passed(state))

    for end_id, end in graph.ends.items():
        if end_id in skipped:
            continue
        if any(map(is_open, graph.branches[end_id])):
            return
        for position, (_, selector) in enumerate(end.outputs):
            if position:
                yield TextChunk((end_id, "answer"), "\n")
            value = pool.get(selector)
            if value is not MISSING:
                yield TextChunk(selector, value)
            elif selector[0] in graph.nodes and is_open(selector[0]):
                yield TextChunk(selector, MISSING)
                return


def markdown(value: Value, url_of: Callable[[Mapping[str, Any]], str]) -> str:
    """A value as text for people: files as images or links, objects as indented JSON, lists as items."""
    if is_artifact(value):
        link = f"[{value['filename']}]({url_of(value)})"
        return f"!{link}" if type_of(value) == "image" else link
    if is_file_list(value):
        return "\n".join(markdown(file, url_of) for file in value)
    if isinstance(value, list):
        return "\n".join(f"- {markdown(item, url_of) if is_artifact(item) else text_of(item)}" for item in value)
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, indent=2)
    return text_of(value)
