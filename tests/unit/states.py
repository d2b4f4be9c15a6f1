"""What the plan asks of a step and nothing else, and all of its answers at a glance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from app.domain.run import RunStatus, StepStatus
from app.graph.graph import Graph
from app.graph.plan import ending, ready_nodes, skipped_nodes


class StepState(NamedTuple):
    status: StepStatus
    handle: str | None = None


class Plan(NamedTuple):
    start: tuple[str, ...] = ()
    skipped: frozenset[str] = frozenset()
    ended: RunStatus | None = None


def plan(graph: Graph, states: Mapping[str, StepState]) -> Plan:
    """What may start, what never will, and how the run ends; nothing starts in a run that has ended."""
    ended = ending(graph, states)
    return Plan(() if ended else tuple(ready_nodes(graph, states)), skipped_nodes(graph, states), ended)
