"""What runs together: nodes and the edges between them, at the top of a graph or inside one of its containers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

import msgspec

from app.graph.nodes.kind import SOURCE, NodeKind
from app.graph.strategy import FAIL_BRANCH, ErrorStrategy, RetryPolicy


class Node(msgspec.Struct, frozen=True):
    """`strategy` and `retry` say what becomes of it when it fails."""

    id: str
    kind: str
    title: str
    work: NodeKind
    strategy: ErrorStrategy | None = None
    retry: RetryPolicy | None = None

    @property
    def handles(self) -> frozenset[str]:
        """The handles of a branching node; empty for one that is always left by `source`."""
        if self.strategy is None or not self.strategy.branches:
            return self.work.handles
        return (self.work.handles or frozenset({SOURCE})) | {FAIL_BRANCH}


class Edge(msgspec.Struct, frozen=True):
    source: str
    target: str
    handle: str = SOURCE


class Body(msgspec.Struct, frozen=True):
    """Nodes that run together, without a cycle.

    `nodes` are in graph order: each after all its parents, the same for every load of the same text. `incoming` has
    its edges in the graph order of their sources. `branches` gives each node's branching ancestors; `is_branching` is
    False when every edge is always taken, so that no node can be skipped. `mark` is the node, if there is one, that
    only marks where a container's rounds begin: it counts as passed from the beginning and is no step.
    """

    nodes: Mapping[str, Node]
    incoming: Mapping[str, tuple[Edge, ...]]
    branches: Mapping[str, frozenset[str]]
    is_branching: bool
    mark: str | None


def make_body(
    nodes: Mapping[str, Node],
    order: Collection[str],
    edges: Iterable[Edge],
    ancestors: Mapping[str, frozenset[str]],
    mark: str | None = None,
) -> Body:
    """`order` is the graph order of those that can be reached; the edges are between them."""
    rank = {node_id: position for position, node_id in enumerate(order)}
    incoming: dict[str, list[Edge]] = {node_id: [] for node_id in order}
    for edge in sorted(edges, key=lambda edge: rank[edge.source]):
        incoming[edge.target].append(edge)
    branching = frozenset(node_id for node_id in order if nodes[node_id].handles)
    return Body(
        nodes={node_id: nodes[node_id] for node_id in order},
        incoming={node_id: tuple(coming) for node_id, coming in incoming.items()},
        branches={node_id: ancestors[node_id] & branching for node_id in order},
        is_branching=bool(branching),
        mark=mark,
    )


def graph_order(node_ids: Iterable[str], edges: Iterable[Edge]) -> tuple[list[str], list[str]]:
    """(the nodes, each after all its parents; none), or where there is a cycle (as they were given; the cycle)."""
    written = list(node_ids)
    sorter: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(written, ()))
    for edge in edges:
        sorter.add(edge.target, edge.source)
    try:
        return list(sorter.static_order()), []
    except CycleError as error:
        return written, list(reversed(error.args[1]))


def ancestors_of(order: Iterable[str], edges: Iterable[Edge]) -> dict[str, frozenset[str]]:
    """Everything upstream of each node, found in passes until nothing changes: it must end on a cycle too."""
    parents: dict[str, set[str]] = {node_id: set() for node_id in order}
    for edge in edges:
        parents[edge.target].add(edge.source)
    found = {node_id: frozenset(direct) for node_id, direct in parents.items()}
    grown = True
    while grown:
        grown = False
        for node_id, known in found.items():
            wider = known.union(*(found[parent] for parent in known))
            grown, found[node_id] = grown or wider != known, wider
    return found
