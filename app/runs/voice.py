"""What a run has told of its end nodes' values, chunk by chunk, and what it may tell next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from app.domain.event import Entry, EventKind
from app.domain.run import Step
from app.graph.answer import awaited_selector, due_chunks
from app.graph.graph import Graph
from app.graph.plan import StepState
from app.graph.selectors import Selector
from app.graph.variables import VariablePool

SPOKEN = "text"
"""The output that a node may tell while it works."""

_PART = "part"


class Voice:
    """The chunks that a run has told, from its facts.

    A chunk is told whole once its value is there, or in parts by the step that is still at it; the last part comes with
    the value. A step that begins again tells its text again from its beginning.
    """

    def __init__(self) -> None:
        self._released = 0  # whole chunks
        self._parts: dict[Selector, str] = {}

    def hear(self, chunk: Mapping[str, Any]) -> None:
        """What was told before, from the log, in its order."""
        selector = tuple(chunk.get("selector", ()))
        if chunk.get(_PART):
            self._parts[selector] = self._parts.get(selector, "") + chunk["value"]
        else:
            self._released += 1
            self._parts.pop(selector, None)

    def begin_again(self, step: Step) -> None:
        """The step is tried again; what it has told does not count."""
        if self._parts and not step.scope:
            self._parts.pop((step.node_id, SPOKEN), None)

    def release(self, graph: Graph, states: Mapping[str, StepState], pool: VariablePool) -> Iterator[Entry]:
        """The chunks that are due, each whole or what is left of it. They count as told from here on."""
        for chunk in due_chunks(graph, states, pool, self._released):
            self._released += 1
            value, told = chunk.value, self._parts.pop(chunk.selector, None)
            if told and isinstance(value, str) and value.startswith(told):
                value = value[len(told) :]
            yield Entry(EventKind.TEXT_CHUNK, None, {"selector": chunk.selector, "value": value})

    def told_by(self, step: Step, graph: Graph, states: Mapping[str, StepState], pool: VariablePool) -> str | None:
        """What has been told of the text that the step is at; None while it is not its turn."""
        selector = (step.node_id, SPOKEN)
        if step.scope or awaited_selector(graph, states, pool) != selector:
            return None
        return self._parts.get(selector, "")


def part(step: Step, text: str) -> Entry:
    """The next part of a step's text."""
    said: dict[str, Any] = {"selector": (step.node_id, SPOKEN), "value": text, _PART: True}
    return Entry(EventKind.TEXT_CHUNK, None, said)
