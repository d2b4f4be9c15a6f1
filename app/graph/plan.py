"""The whole engine: from what is known of a run's steps to what should happen next. Pure, and safe to ask again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from app.domain.run import RunStatus, StepStatus
from app.graph.body import Body, Edge
from app.graph.nodes.kind import SOURCE

# Looking up an enum's member is a call into Python.
_SUCCEEDED, _EXCEPTION = StepStatus.SUCCEEDED, StepStatus.EXCEPTION
_FAILED, _STOPPED = StepStatus.FAILED, StepStatus.STOPPED


class StepState(Protocol):
    """What the plan must know of a step. `handle` says which outgoing edges were taken; None is `source`."""

    @property
    def status(self) -> StepStatus: ...

    @property
    def handle(self) -> str | None: ...


def has_passed(state: StepState) -> bool:
    """True when what comes after the step may go on. By identity: hashing an enum's member is one too."""
    return state.status is _SUCCEEDED or state.status is _EXCEPTION


def ready_nodes(body: Body, states: Mapping[str, StepState]) -> Iterator[str]:
    """The nodes that may start now, in graph order: all their incoming edges are decided, and one at least is taken.

    `states` may grow while this goes on: a node that the caller runs to its end counts for those that come after it,
    and each comes after all its parents. So one pass starts whatever can be started.
    """
    skipped: set[str] = set()
    for node_id, edges in body.incoming.items():
        if node_id in states:
            continue
        taken = not edges
        for edge in edges:
            decided = _is_taken(edge, states, skipped)
            if decided is None:
                break
            taken |= decided
        else:
            if taken:
                yield node_id
            else:
                skipped.add(node_id)


def ending(body: Body, states: Mapping[str, StepState]) -> RunStatus | None:
    """How the run ends, or None while it goes on: a node has still to be started, or is under way.

    A failed step ends the run at once, a stopped one too; failure wins over stop.
    """
    passed, failed, stopped, exception = 0, False, False, False
    for state in states.values():
        status = state.status
        if status is _SUCCEEDED:
            passed += 1
        elif status is _EXCEPTION:
            passed, exception = passed + 1, True
        elif status is _FAILED:
            failed = True
        elif status is _STOPPED:
            stopped = True
    if failed:
        return RunStatus.FAILED
    if stopped:
        return RunStatus.STOPPED
    if passed + len(skipped_nodes(body, states)) < len(body.nodes):
        return None
    return RunStatus.PARTIAL_SUCCEEDED if exception else RunStatus.SUCCEEDED


def skipped_nodes(body: Body, states: Mapping[str, StepState]) -> frozenset[str]:
    """The nodes on branches that were not taken: those with no incoming edge left that is or may be taken."""
    if not body.is_branching:
        return frozenset()
    skipped: set[str] = set()
    for node_id, edges in body.incoming.items():
        if node_id not in states and edges and all(_is_taken(edge, states, skipped) is False for edge in edges):
            skipped.add(node_id)
    return frozenset(skipped)


def predecessor(body: Body, states: Mapping[str, StepState], node_id: str) -> str | None:
    """The parent by whose edge the node was reached, the first in graph order; None for the start node."""
    edges = body.incoming[node_id]
    if len(edges) < 2 and not body.is_branching:  # there was no other way
        return edges[0].source if edges else None
    skipped = skipped_nodes(body, states)
    for edge in edges:
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
