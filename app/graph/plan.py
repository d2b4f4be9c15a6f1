"""The whole engine: from what is known of a run's steps to what should happen next. Pure, and safe to ask again."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from app.domain.run import RunStatus, StepStatus
from app.graph.graph import Edge, Graph
from app.graph.nodes.kind import SOURCE

_PASSED = frozenset({StepStatus.SUCCEEDED, StepStatus.EXCEPTION})


class StepState(msgspec.Struct, frozen=True):
    """What the plan must know of a step. `handle` says which outgoing edges were taken; None is `source`."""

    status: StepStatus
    handle: str | None = None


class Plan(msgspec.Struct, frozen=True):
    """What should happen next.

    `start` is in graph order and holds no node that has a state; `skipped` are all nodes that will never start, not
    only the new ones; `ended` is how the run ends, or None while it goes on.
    """

    start: tuple[str, ...] = ()
    skipped: frozenset[str] = frozenset()
    ended: RunStatus | None = None


def plan(graph: Graph, states: Mapping[str, StepState]) -> Plan:
    """Decide. A node is ready when all its incoming edges are decided and one at least is taken.

    A failed step ends the run at once, a stopped one too; failure wins over stop. Nodes without a state have not been
    started; the caller starts what `start` names and asks again when a step has ended.
    """
    skipped = skipped_nodes(graph, states)
    ended = _ending(graph, states, skipped)
    if ended is not None:
        return Plan(skipped=skipped, ended=ended)
    waiting = (node_id for node_id in graph.nodes if node_id not in states and node_id not in skipped)
    return Plan(tuple(node_id for node_id in waiting if _is_ready(graph, states, skipped, node_id)), skipped)


def skipped_nodes(graph: Graph, states: Mapping[str, StepState]) -> frozenset[str]:
    """The nodes on branches that were not taken: those with no incoming edge left that is or may be taken."""
    skipped: set[str] = set()
    for node_id, edges in graph.incoming.items():
        if node_id in states:
            if states[node_id].status == StepStatus.SKIPPED:
                skipped.add(node_id)
        elif edges and all(_is_taken(edge, states, skipped) is False for edge in edges):
            skipped.add(node_id)
    return frozenset(skipped)


def predecessor(graph: Graph, states: Mapping[str, StepState], node_id: str) -> str | None:
    """The parent by whose edge the node was reached, the first in graph order; None for the start node."""
    skipped = skipped_nodes(graph, states)
    taken = (edge.source for edge in graph.incoming[node_id] if _is_taken(edge, states, skipped))
    return next(taken, None)


def _is_taken(edge: Edge, states: Mapping[str, StepState], skipped: set[str] | frozenset[str]) -> bool | None:
    """None while it is undecided."""
    if edge.source in skipped:
        return False
    state = states.get(edge.source)
    if state is None or state.status not in _PASSED:
        return None
    return (state.handle or SOURCE) == edge.handle


def _is_ready(graph: Graph, states: Mapping[str, StepState], skipped: frozenset[str], node_id: str) -> bool:
    """For a node that is not skipped: nothing undecided is enough, for then an edge is taken (or it is the start)."""
    return all(_is_taken(edge, states, skipped) is not None for edge in graph.incoming[node_id])


def _ending(graph: Graph, states: Mapping[str, StepState], skipped: frozenset[str]) -> RunStatus | None:
    statuses = [state.status for state in states.values()]
    if StepStatus.FAILED in statuses:
        return RunStatus.FAILED
    if StepStatus.STOPPED in statuses:
        return RunStatus.STOPPED
    passed = sum(status in _PASSED for status in statuses)
    if passed + len(skipped) < len(graph.nodes):
        return None
    return RunStatus.PARTIAL_SUCCEEDED if StepStatus.EXCEPTION in statuses else RunStatus.SUCCEEDED
