"""What a run says while it runs: what its end and answer nodes give, as text chunks, each as soon as it is certain."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

import msgspec

from app.graph.graph import Graph
from app.graph.plan import StepState, has_passed, skipped_nodes
from app.graph.selectors import MISSING, Selector
from app.graph.values import Value
from app.graph.variables import VariablePool


class TextChunk(msgspec.Struct, frozen=True):
    """A value that an end node gives, or the text before it; `markdown` is what is told."""

    selector: Selector
    value: Value


def due_chunks(graph: Graph, states: Mapping[str, StepState], pool: VariablePool, released: int) -> list[TextChunk]:
    """The chunks that may be told now, after the `released` ones that were.

    A run's chunks have one order from its beginning to its end: end and answer nodes in graph order, each one's
    variables as the document lists them. The first chunk that is uncertain holds back all that follow.
    """
    chunks = list(_certain_chunks(graph, states, pool))
    return [chunk for chunk in chunks[released:] if chunk.value is not MISSING]


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
        if any(map(is_open, graph.awaited[end_id])):
            return
        for part in end.speech:
            if isinstance(part, str):
                yield TextChunk((end_id, "answer"), part)
                continue
            value = pool.get(part)
            if value is not MISSING:
                yield TextChunk(part, value)
            elif part[0] in graph.nodes and is_open(part[0]):
                yield TextChunk(part, MISSING)
                return
