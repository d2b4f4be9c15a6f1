"""The whole engine: from what is known of a run's steps to what should happen next. Pure, and safe to ask again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from app.domain.run import RunStatus, StepStatus
from app.graph.graph import Edge, Graph
from app.graph.nodes.kind import SOURCE


class StepState(Protocol):
    """What the plan must know of a step. `handle` says which outgoing edges were taken; None is `source`."""

    @property
    def status(self) -> StepStatus: ...

    @property
    def handle(self) -> str | None: ...


def has_passed(state: StepState) -> bool:
    """True when what comes after the step may go on. By identity: hashing an enum's member is a call into Python."""
    return state.status is StepStatus.SUCCEEDED or state.status is StepStatus.EXCEPTION


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
    start = [
        node_id
        for node_id, edges in graph.incoming.items()
        if node_id not in states and node_id not in skipped and _are_decided(edges, states, skipped)
    ]
    return Plan(tuple(start), skipped)


def skipped_nodes(graph: Graph, states: Mapping[str, StepState]) -> frozenset[str]:
    """The nodes on branches that were not taken: those with no incoming edge left that is or may be taken."""
    if not graph.is_branching:
        return frozenset()
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
    for edge in graph.incoming[node_id]:
        if _is_taken(edge, states, skipped):
            return edge.source
    return None


def _is_taken(edge: Edge, states: Mapping[str, StepState], skipped: set[str] | frozenset[str]) -> bool | None:
    """None while it is undecided."""
    if edge.source in skipped:
        return False
    state = states.get(edge.source)
    if state is None or not has_passed(state):
        return None
    return (state.handle or SOURCE) == edge.handle


def _are_decided(edges: Iterable[Edge], states: Mapping[str, StepState], skipped: frozenset[str]) -> bool:
    """Enough to start a node that is not skipped: one of its edges is taken then, or it is the start."""
    for edge in edges:  # noqa: SIM110 - in the path of every run, and a generator costs twice as much
        if _is_taken(edge, states, skipped) is None:
            return False
    return True


def _ending(graph: Graph, states: Mapping[str, StepState], skipped: frozenset[str]) -> RunStatus | None:
    passed, failed, stopped, exception = 0, False, False, False
    for state in states.values():
        passed += has_passed(state)
        failed |= state.status is StepStatus.FAILED
        stopped |= state.status is StepStatus.STOPPED
        exception |= state.status is StepStatus.EXCEPTION
    if failed:
        return RunStatus.FAILED
    if stopped:
        return RunStatus.STOPPED
    if passed + len(skipped) < len(graph.nodes):
        return None
    return RunStatus.PARTIAL_SUCCEEDED if exception else RunStatus.SUCCEEDED
