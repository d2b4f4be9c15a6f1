"""The checked graph of a workflow document: what `load_graph` returns can be run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from app.errors import DocumentInvalid, Problem
from app.graph.body import Body, Edge, Node, ancestors_of, graph_order, make_body
from app.graph.document import Document, parse_document
from app.graph.nodes import KINDS, kind_of
from app.graph.nodes.end import Speaker
from app.graph.nodes.iteration import IterationStart
from app.graph.nodes.kind import SOURCE, Configuration, problem_of
from app.graph.nodes.loop import LoopStart
from app.graph.nodes.start import Start
from app.graph.nodes.workflow_tool import WorkflowTool
from app.graph.rounds import Container
from app.graph.selectors import Selector
from app.graph.strategy import SUCCESS_BRANCH, ErrorStrategy, RetryPolicy
from app.graph.unsupported import refusal

__all__ = ["Body", "Edge", "Graph", "Node", "build_graph", "load_graph"]

_MARKS = frozenset({IterationStart.kind, LoopStart.kind})
_TOP = ""  # the level that is inside no container


class Graph(Body, frozen=True):
    """A workflow that can be run: one start, no cycle, every node reachable.

    `warnings` tell its author what is odd but does no harm, in Dify neither: a node that nothing leads to (it is left
    out), a selector that no ancestor answers (it finds nothing), an edge from or to nowhere. `bodies` are what its
    containers run, by the container's id, however deep. `calls` are the names of other apps that it runs, as each node
    has them. `ends` are the nodes whose outputs are the run's, `awaited` what must have passed before each may speak:
    branches before it, and assigners of what it says. `heard` are all whose completion may let one of them speak.
    """

    document: Document
    heard: frozenset[str]
    start_id: str
    ends: Mapping[str, Speaker]
    awaited: Mapping[str, frozenset[str]]
    bodies: Mapping[str, Body]
    calls: frozenset[tuple[str, ...]] = frozenset()
    warnings: tuple[str, ...] = ()

    @property
    def start(self) -> Start:
        work = self.nodes[self.start_id].work
        assert isinstance(work, Start)
        return work

    def node(self, node_id: str) -> Node:
        """A node at any depth."""
        for body in (self, *self.bodies.values()):
            if node_id in body.nodes:
                return body.nodes[node_id]
        raise LookupError(f"there is no node '{node_id}'")


def load_graph(text: str) -> Graph:
    """Parse and check a document. Raises DocumentInvalid with every problem that was found, each naming its node."""
    return build_graph(parse_document(text))


def build_graph(document: Document) -> Graph:
    """Check a parsed document; the same promise as `load_graph`."""
    draft = _Draft(document)
    if not draft.titles:
        raise DocumentInvalid(["Graph must have at least one node"])
    draft.check_starts()
    draft.read_edges()
    containers = sorted(draft.containers, key=draft.depth)
    levels = [draft.level(container_id) for container_id in (_TOP, *containers)]
    draft.check_selectors()
    if draft.problems:
        raise DocumentInvalid(draft.problems)
    top, *bodies = (make_body(draft.nodes, *level) for level in levels)
    ends = {node.id: node.work for node in top.nodes.values() if isinstance(node.work, Speaker)}
    awaited = {
        end_id: top.branches[end_id] | _assigning(top, draft.ancestors[end_id], end) for end_id, end in ends.items()
    }
    heard = [_heard(end, awaited[end_id], top, draft.start_ids[0]) for end_id, end in ends.items()]
    return Graph(
        **msgspec.structs.asdict(top),
        document=document,
        start_id=draft.start_ids[0],
        heard=frozenset().union(*heard),
        ends=ends,
        awaited=awaited,
        bodies=dict(zip(containers, bodies, strict=True)),
        calls=frozenset(node.work.names for node in draft.nodes.values() if isinstance(node.work, WorkflowTool)),
        warnings=(*document.warnings, *draft.warnings),
    )


def _assigning(body: Body, ancestors: frozenset[str], end: Speaker) -> frozenset[str]:
    """The nodes before an end that may set what it says."""
    said = frozenset(end.selectors)
    before = ancestors & body.nodes.keys()
    return frozenset(each for each in before if not said.isdisjoint(body.nodes[each].work.assigns))


def _heard(end: Speaker, awaited: frozenset[str], body: Body, start_id: str) -> frozenset[str]:
    """What an end waits for, and the nodes whose values it gives. One without any speaks as the run begins."""
    heard = awaited | {selector[0] for selector in end.selectors if selector[0] in body.nodes}
    return heard if heard or not end.speech else frozenset({start_id})


class _Draft:
    """A graph in the making. Checks add to `problems` and go on; `nodes` has only those whose kind is supported.

    A level is what is inside one container, or inside none; `owners` gives each node's.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.titles: dict[str, str] = {}
        self.lost: set[str] = set()
        self.start_ids: list[str] = []
        self.nodes: dict[str, Node] = {}
        self.containers: dict[str, Mapping[str, Any]] = {}
        self.edges: dict[str, list[Edge]] = {}
        self.ancestors: dict[str, frozenset[str]] = {}
        written = [entry for entry in document.nodes if _is_node(entry)]
        for entry in written:
            self._read_node(str(entry.get("id", "")), entry["data"])
        self.owners = {str(entry.get("id", "")): self._owner(entry) for entry in written}
        for container_id in self.containers:
            self._check_nesting(container_id)

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
        reader = kind_of(entries)
        if reader is None:
            self.problem(node_id, refusal(kind, KINDS))
            return
        configuration = Configuration(node_id, entries, self.problems, self.warnings)
        work = reader.read(configuration)
        strategy = ErrorStrategy.read(configuration)
        retry = RetryPolicy.read(configuration) if work.retries else None
        self.nodes[node_id] = Node(node_id, kind, title, work, strategy, retry)
        if isinstance(work, Container):
            self.containers[node_id] = entries

    def _owner(self, entry: Mapping[str, Any]) -> str:
        """The innermost container that the node is in. What is inside two names both."""
        named = (entry["data"].get("loop_id"), entry["data"].get("iteration_id"), entry.get("parentId"))
        owners = [name for name in named if name in self.containers and name != entry.get("id")]
        inner = [name for name in owners if self._is_inside(name, owners)]
        return str((inner or owners or [_TOP])[0])

    def _is_inside(self, name: str, others: list[str]) -> bool:
        entries = self.containers[name]
        return any(other != name and other in (entries.get("loop_id"), entries.get("iteration_id")) for other in others)

    def _check_nesting(self, container_id: str) -> None:
        seen, owner = {container_id}, self.owners[container_id]
        while owner != _TOP:
            if owner in seen:
                self.problem(container_id, f"it is inside '{owner}', which is inside itself")
                self.owners[container_id] = _TOP
                return
            seen.add(owner)
            owner = self.owners[owner]

    def depth(self, node_id: str) -> int:
        """How many containers it is in."""
        owner = self.owners[node_id]
        return 0 if owner == _TOP else 1 + self.depth(owner)

    def check_starts(self) -> None:
        if not self.start_ids:
            self.problems.append("the graph has no start node")
        for node_id in self.start_ids[1:]:
            self.problem(node_id, f"a graph has one start node, and '{self.start_ids[0]}' is it already")

    def read_edges(self) -> None:
        """The edges whose two ends exist, by their level."""
        for entry in self.document.edges:
            ends = {end: str(entry.get(end, "")) for end in ("source", "target")}
            unknown = [end for end, node_id in ends.items() if node_id not in self.titles]
            for end in unknown:
                self.warnings.append(f"edge '{entry.get('id')}' references unknown {end} node '{ends[end]}'")
            if unknown:
                continue
            source, target = ends.values()
            if self.owners[source] != self.owners[target]:
                self.warn(source, f"an edge to '{target}' goes into or out of a container, so it is never taken")
                continue
            edge = Edge(source, target, self._read_handle(source, entry.get("sourceHandle")))
            self.edges.setdefault(self.owners[source], []).append(edge)

    def _read_handle(self, source: str, written: object) -> str:
        """A branching node is left by one of its handles; any other node by `source`, whatever the file calls it."""
        node = self.nodes.get(source)
        handle = str(written) if written is not None else SOURCE
        if node is None or handle in node.handles:
            return handle
        if node.work.handles:
            known = ", ".join(sorted(node.handles))
            self.warn(source, f"an edge leaves by unknown handle '{handle}' and is never taken; handles: {known}")
            return handle
        if handle not in (SOURCE, SUCCESS_BRANCH):
            self.warn(source, f"an edge leaves by '{handle}', which the node does not have: it is taken as '{SOURCE}'")
        return SOURCE

    def level(self, container_id: str) -> tuple[list[str], list[Edge], Mapping[str, frozenset[str]], str | None]:
        """(graph order, edges, ancestors, mark) of what a container's rounds, or the run, can reach."""
        edges = self.edges.get(container_id, [])
        order, cycle = graph_order((each for each, owner in self.owners.items() if owner == container_id), edges)
        if cycle:
            self.problem(cycle[0], f"the edges form a cycle: {' → '.join(cycle)}")
        ancestors = ancestors_of(order, edges)
        self.ancestors |= ancestors
        firsts, mark = (set(self.start_ids[:1]), None) if container_id == _TOP else self._entrance(container_id, order)
        if container_id in self.lost:
            lost = order
        else:
            lost = self._unreachable(order, ancestors, firsts)
            for node_id in lost:
                self.warn(node_id, f"can't be reached from {_named(firsts)}, so it never runs")
        self._leave_out(lost)
        if container_id != _TOP and container_id not in self.lost and len(order) - len(lost) == (mark is not None):
            self.warn(container_id, "it has no nodes inside, so its rounds do nothing")
        order = [node_id for node_id in order if node_id not in lost]
        return order, [edge for edge in edges if edge.source not in lost], ancestors, mark

    def _leave_out(self, lost: list[str]) -> None:
        """What never runs may be of any kind, and unfinished: its problems are none."""
        self.lost.update(lost)
        for node_id in lost:
            self.nodes.pop(node_id, None)
        for problem in [each for each in self.problems if isinstance(each, Problem) and each.node_id in lost]:
            self.problems.remove(problem)

    def _unreachable(self, order: list[str], ancestors: Mapping[str, frozenset[str]], firsts: set[str]) -> list[str]:
        """What nothing leads to; in Dify it does not run either. Other start nodes are a problem already."""
        kept = firsts | set(self.start_ids)
        return [each for each in order if firsts and each not in kept and not firsts & ancestors[each]]

    def _entrance(self, container_id: str, inside: list[str]) -> tuple[set[str], str | None]:
        """(where a container's rounds begin, the mark among them). Older documents have no mark."""
        marks = [each for each in inside if each in self.nodes and self.nodes[each].kind in _MARKS]
        first = self.containers[container_id].get("start_node_id")
        if first not in inside:
            first = marks[0] if marks else None
        return ({first} if first else set()), (first if first in marks else None)

    def check_selectors(self) -> None:
        for node in self.nodes.values():
            before = self._before(node.id)
            for selector in dict.fromkeys(node.work.selectors):
                self._check_selector(node.id, selector, before)
            if isinstance(node.work, Container):
                inside = {each for each, owner in self.owners.items() if owner == node.id}
                for selector in dict.fromkeys(node.work.inner_selectors):
                    self._check_selector(node.id, selector, before | {node.id} | inside)

    def _before(self, node_id: str) -> frozenset[str]:
        """Whatever has given its values when the node begins: what is before it, before its container, and so on."""
        before = self.ancestors.get(node_id, frozenset())
        owner = self.owners[node_id]
        return before if owner == _TOP else before | {owner} | self._before(owner)

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


def _is_node(entry: Mapping[str, Any]) -> bool:
    configuration = entry.get("data")
    return entry.get("type") != "custom-note" and isinstance(configuration, dict) and bool(configuration.get("type"))


def _named(firsts: Iterable[str]) -> str:
    return " or ".join(f"start node '{node_id}'" for node_id in sorted(firsts))
