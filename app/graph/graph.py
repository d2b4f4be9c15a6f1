"""The checked graph of a workflow document: what `load_graph` returns can be run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

import msgspec

from app.errors import DocumentInvalid
from app.graph.document import Document, parse_document
from app.graph.nodes import KINDS
from app.graph.nodes.end import End
from app.graph.nodes.kind import SOURCE, Configuration, NodeKind, problem_of
from app.graph.nodes.start import Start
from app.graph.selectors import Selector

_FAIL_BRANCH = "fail-branch"


class Node(msgspec.Struct, frozen=True):
    id: str
    kind: str
    title: str
    work: NodeKind


class Edge(msgspec.Struct, frozen=True):
    source: str
    target: str
    handle: str = SOURCE


class Graph(msgspec.Struct, frozen=True):
    """A workflow that can be run: one start, no cycle, every node reachable.

    `warnings` tell its author what is odd but does no harm, in Dify neither: a node that nothing leads to (it is left
    out), a selector that no ancestor answers (it finds nothing), an edge from or to nowhere.
    `nodes` are in graph order: each after all its parents, the same for every load of the same text. `incoming` has
    its edges in the graph order of their sources. `branches` gives each node's branching ancestors; `is_branching` is
    False when every edge is always taken, so that no node can be skipped. `heard` are the nodes whose completion may
    let an end node speak.
    """

    document: Document
    nodes: Mapping[str, Node]
    incoming: Mapping[str, tuple[Edge, ...]]
    branches: Mapping[str, frozenset[str]]
    is_branching: bool
    heard: frozenset[str]
    start_id: str
    ends: Mapping[str, End]
    warnings: tuple[str, ...] = ()

    @property
    def start(self) -> Start:
        work = self.nodes[self.start_id].work
        assert isinstance(work, Start)
        return work


def load_graph(text: str) -> Graph:
    """Parse and check a document. Raises DocumentInvalid with every problem that was found, each naming its node."""
    return build_graph(parse_document(text))


def build_graph(document: Document) -> Graph:
    """Check a parsed document; the same promise as `load_graph`."""
    draft = _Draft(document)
    if not draft.titles:
        raise DocumentInvalid(["Graph must have at least one node"])
    draft.check_starts()
    edges = draft.read_edges()
    order = draft.sort(edges)
    ancestors = _ancestors(order, edges)
    order, edges = draft.leave_out_unreachable(order, edges, ancestors)
    draft.check_selectors(ancestors)
    if draft.problems:
        raise DocumentInvalid(draft.problems)
    rank = {node_id: position for position, node_id in enumerate(order)}
    edges = sorted(edges, key=lambda edge: rank[edge.source])
    nodes = {node_id: draft.nodes[node_id] for node_id in order}
    branching = frozenset(node.id for node in nodes.values() if node.work.handles)
    ends = {node.id: node.work for node in nodes.values() if isinstance(node.work, End)}
    return Graph(
        document=document,
        nodes=nodes,
        incoming={node_id: tuple(edge for edge in edges if edge.target == node_id) for node_id in order},
        branches={node_id: ancestors[node_id] & branching for node_id in order},
        is_branching=any(edge.handle != SOURCE for edge in edges),
        start_id=draft.start_ids[0],
        heard=_heard(ends) | frozenset().union(*(ancestors[end_id] & branching for end_id in ends)),
        ends=ends,
        warnings=tuple(draft.warnings),
    )


def _heard(ends: Mapping[str, End]) -> frozenset[str]:
    """The nodes whose values the end nodes give."""
    return frozenset(selector[0] for end in ends.values() for selector in end.selectors)


class _Draft:
    """A graph in the making. Checks add to `problems` and go on; `nodes` has only those whose kind is supported."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.titles: dict[str, str] = {}
        self.start_ids: list[str] = []
        self.nodes: dict[str, Node] = {}
        for entry in document.nodes:
            configuration = entry.get("data")
            if entry.get("type") != "custom-note" and isinstance(configuration, dict) and configuration.get("type"):
                self._read_node(str(entry.get("id", "")), configuration)

    def problem(self, node_id: str, text: str) -> None:
        self.problems.append(problem_of(node_id, self.titles[node_id], text))

    def warn(self, node_id: str, text: str) -> None:
        self.warnings.append(problem_of(node_id, self.titles[node_id], text))

    def _read_node(self, node_id: str, entries: Mapping[str, Any]) -> None:
        kind, title = str(entries["type"]), str(entries.get("title") or "")
        if node_id in self.titles:
            self.problem(node_id, "the id is used by more than one node")
        self.titles.setdefault(node_id, title)
        if kind == Start.kind:
            self.start_ids.append(node_id)
        if kind not in KINDS:
            self.problem(node_id, f"kind '{kind}' is not supported; supported kinds: {', '.join(sorted(KINDS))}")
            return
        if entries.get("error_strategy") not in (None, "", "none"):
            self.problem(node_id, f"error_strategy '{entries['error_strategy']}' is not supported yet")
        work = KINDS[kind].read(Configuration(node_id, entries, self.problems, self.warnings))
        self.nodes[node_id] = Node(node_id, kind, title, work)

    def check_starts(self) -> None:
        if not self.start_ids:
            self.problems.append("the graph has no start node")
        for node_id in self.start_ids[1:]:
            self.problem(node_id, f"a graph has one start node, and '{self.start_ids[0]}' is it already")

    def read_edges(self) -> list[Edge]:
        """The edges whose two ends exist."""
        edges = []
        for entry in self.document.edges:
            ends = {end: str(entry.get(end, "")) for end in ("source", "target")}
            unknown = [end for end, node_id in ends.items() if node_id not in self.titles]
            for end in unknown:
                self.warnings.append(f"edge '{entry.get('id')}' references unknown {end} node '{ends[end]}'")
            if not unknown:
                handle = self._read_handle(ends["source"], entry.get("sourceHandle"))
                edges.append(Edge(ends["source"], ends["target"], handle))
        return edges

    def _read_handle(self, source: str, written: object) -> str:
        """A branching node is left by one of its handles; any other node by `source`, whatever the file calls it."""
        node = self.nodes.get(source)
        handle = str(written) if written is not None else SOURCE
        if node is None:
            return handle
        handles = node.work.handles
        if handles and handle not in handles:
            self.problem(source, f"an edge leaves by unknown handle '{handle}'; handles: {', '.join(sorted(handles))}")
        if not handles and handle == _FAIL_BRANCH:
            self.problem(source, f"an edge leaves by '{_FAIL_BRANCH}', which is not supported yet")
        return handle if handles else SOURCE

    def sort(self, edges: Iterable[Edge]) -> list[str]:
        """Node ids in graph order; in the document's where there is a cycle, which is a problem."""
        sorter: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(self.titles, ()))
        for edge in edges:
            sorter.add(edge.target, edge.source)
        try:
            return list(sorter.static_order())
        except CycleError as error:
            cycle = list(reversed(error.args[1]))
            self.problem(cycle[0], f"the edges form a cycle: {' → '.join(cycle)}")
            return list(self.titles)

    def leave_out_unreachable(
        self, order: list[str], edges: list[Edge], ancestors: Mapping[str, frozenset[str]]
    ) -> tuple[list[str], list[Edge]]:
        """What the start node leads to; the rest can't run, in Dify neither."""
        if not self.start_ids:
            return order, edges
        start_id = self.start_ids[0]
        lost = {node_id for node_id in order if node_id not in self.start_ids and start_id not in ancestors[node_id]}
        for node_id in lost:
            self.warn(node_id, f"can't be reached from start node '{start_id}', so it never runs")
            self.nodes.pop(node_id, None)
        order = [node_id for node_id in order if node_id not in lost]
        return order, [edge for edge in edges if edge.source not in lost]

    def check_selectors(self, ancestors: Mapping[str, frozenset[str]]) -> None:
        for node in self.nodes.values():
            for selector in dict.fromkeys(node.work.selectors):
                self._check_selector(node.id, selector, ancestors[node.id])

    def _check_selector(self, node_id: str, selector: Selector, ancestors: frozenset[str]) -> None:
        origin, written = selector[0], ".".join(selector)
        if origin == "env":
            if selector[1] not in self.document.environment:
                self.warn(node_id, f"'{written}' names no environment variable of the document")
        elif origin in self.titles:
            if origin not in ancestors:
                self.warn(node_id, f"'{written}' reads node '{origin}', which does not come before it")
        elif origin and origin != "sys":
            self.warn(node_id, f"'{written}' reads node '{origin}', which does not exist")


def _ancestors(order: Iterable[str], edges: Iterable[Edge]) -> dict[str, frozenset[str]]:
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
