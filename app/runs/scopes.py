"""Where a run is: its graph at the top, and under it every round of a container that is under way.

All of it follows from the run's facts: a container looks again at what it looked at then, and hears again in which
order its rounds began and ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from app.domain.run import Step, StepStatus
from app.errors import NodeFailed
from app.graph.calls import Callee, CallRounds
from app.graph.graph import Body, Graph, Node
from app.graph.nodes.kind import AppCall
from app.graph.nodes.loop import Loop
from app.graph.rounds import RoundEnd, Rounds, Usage
from app.graph.variables import VariablePool

Path = tuple[tuple[str, int], ...]
"""Which round: the containers around it, from the outermost on, each as (node id, round from 0)."""

CALLED_BY = "called_by"
"""What the metadata of a step in a called workflow say: the id of the step that called it."""

_FAILED = StepStatus.FAILED
_MARK = Step("", "", "", "", "", 0, StepStatus.SUCCEEDED, finished_at=0.0)  # stands for a container's start


class Scope:
    """A body on its way. `steps` are its nodes' by node id, `ended` those that have ended, in their order.

    `marks` are what the metadata of every step in it says. `kept` are the variables of containers that have just ended.
    `breaks`: a loop-end was reached in it. `called` is the version of the workflow that it belongs to, if that is not
    the run's own, and `calls` how many calls led to it.
    """

    __slots__ = (
        *("begun_at", "body", "breaks", "called", "calls", "ended", "graph", "kept", "marks", "path", "pool", "rounds"),
        "steps",
    )

    def __init__(self, graph: Graph, body: Body, pool: VariablePool, path: Path = ()) -> None:
        self.graph = graph
        self.body = body
        self.pool = pool
        self.path = path
        self.steps: dict[str, Step] = {} if body.mark is None else {body.mark: _MARK}
        self.ended: dict[str, Step] = {}
        self.rounds: dict[str, Rounds] = {}
        self.kept: dict[str, Mapping[str, Any]] = {}
        self.called: str | None = None
        self.calls = 0
        self.marks: Mapping[str, Any] | None = None
        self.breaks = False
        self.begun_at = 0.0

    def note(self, step: Step) -> None:
        """How one of its nodes stands now."""
        self.steps[step.node_id] = step
        if step.finished_at is not None:
            self.ended[step.node_id] = step
        if step.outputs is not None:
            self.pool.add(
                step.node_id, {**self.kept.pop(step.node_id, {}), **step.outputs} if self.kept else step.outputs
            )

    def metadata(self, more: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """A step's metadata: where it is, and what is its own."""
        if self.marks is None:
            return more
        return {**self.marks, **more} if more else self.marks

    def round(self, node_id: str, number: int, begun_at: float) -> Scope:
        """A round of one of its containers."""
        rounds, path = self.rounds[node_id], (*self.path, (node_id, number))
        pool, marks = rounds.pool(number, self.pool), self.marks or {}
        if rounds.graph is not None:
            inner = Scope(rounds.graph, rounds.graph, pool, path)
            inner.called, inner.calls = rounds.pinned["workflow_id"], self.calls + 1
            inner.marks = {**marks, CALLED_BY: self.steps[node_id].id}
        else:
            inner = Scope(self.graph, self.graph.bodies[node_id], pool, path)
            inner.called, inner.calls = self.called, self.calls
            name = self.steps[node_id].kind
            inner.marks = {**marks, f"{name}_id": node_id, f"{name}_index": number}
        inner.begun_at = begun_at
        rounds.begin(number)
        return inner

    def reopen(self, node_id: str, told: Mapping[str, Any], graph_of: Callable[[str], Graph]) -> None:
        """One of its containers is under way, as the log says: it looks again at what it goes through."""
        rounds = self.body.nodes[node_id].work.execute(self.pool)
        if isinstance(rounds, AppCall):
            workflow_id = str(told["workflow_id"])
            rounds = CallRounds(rounds, Callee(str(told["app_id"]), workflow_id, graph_of(workflow_id)))
        assert isinstance(rounds, Rounds)
        self.rounds[node_id] = rounds

    def ended_round(self, at: float) -> RoundEnd:
        """How this round has ended."""
        failed, failure = self.first_failed, None
        if failed is not None:
            failure = NodeFailed(failed.error or "", error_type=failed.error_type)
        tokens = sum((step.metadata or {}).get("total_tokens") or 0 for step in self.ended.values())
        return RoundEnd(self.pool, Usage(at - self.begun_at, tokens), failure, self.breaks)

    @property
    def first_failed(self) -> Step | None:
        return next((step for step in self.ended.values() if step.status is _FAILED), None)

    @property
    def open_steps(self) -> list[Step]:
        return [step for step in self.steps.values() if step.finished_at is None]


class Scopes:
    """All of a run's scopes, by their path; `top` is the graph itself."""

    def __init__(self, top: Scope) -> None:
        self.top = top
        self._by_path: dict[Path, Scope] = {(): top}

    def __iter__(self) -> Iterator[Scope]:
        return iter(self._by_path.values())

    def of(self, step: Step) -> Scope:
        return self._by_path[step.scope]

    def node(self, step: Step) -> Node:
        return self._by_path[step.scope].body.nodes[step.node_id]

    def around(self, scope: Scope) -> Scope:
        """The scope that the round's container is in."""
        return self._by_path[scope.path[:-1]]

    def begin_round(self, scope: Scope, node_id: str, number: int, at: float) -> Scope:
        inner = self._by_path[(*scope.path, (node_id, number))] = scope.round(node_id, number, at)
        return inner

    def end_round(self, scope: Scope, at: float) -> Rounds:
        """The rounds of its container, which have heard of it. Whatever went on in the round is forgotten."""
        node_id, number = scope.path[-1]
        rounds = self.around(scope).rounds[node_id]
        rounds.end(number, scope.ended_round(at))
        self._forget(scope.path)
        return rounds

    def end_container(self, scope: Scope, node_id: str) -> None:
        """Its rounds that were not waited for are forgotten."""
        rounds = scope.rounds.pop(node_id, None)
        if rounds is not None and rounds.variables:
            scope.kept[node_id] = rounds.variables
        for inner in self.rounds_of(scope, node_id):
            self._forget(inner.path)

    def rounds_of(self, scope: Scope, node_id: str) -> list[Scope]:
        """The rounds of the container that are under way."""
        depth = len(scope.path)
        below = self.below(scope.path)
        return [each for each in below if len(each.path) == depth + 1 and each.path[depth][0] == node_id]

    def below(self, path: Path) -> list[Scope]:
        """The scope and all rounds inside it, the innermost first."""
        found = [each for each in self._by_path.values() if each.path[: len(path)] == path]
        return sorted(found, key=lambda scope: len(scope.path), reverse=True)

    def break_loop(self, path: Path) -> None:
        """Makes the round of the innermost loop around it the last one."""
        for depth in range(len(path), 0, -1):
            if isinstance(self._by_path[path[: depth - 1]].body.nodes[path[depth - 1][0]].work, Loop):
                self._by_path[path[:depth]].breaks = True
                return

    def told_of(self, scope: Scope) -> dict[str, Any]:
        """What a round's facts say of it: which container it is of, and which it is."""
        node_id, number = scope.path[-1]
        step = self.around(scope).steps[node_id]
        named = {"node_id": node_id, "kind": step.kind, "title": step.title}
        called = {CALLED_BY: scope.marks[CALLED_BY]} if scope.marks and CALLED_BY in scope.marks else {}
        return {**named, "scope": step.scope, "round": number, **called}

    def hear_begin(self, told: Mapping[str, Any]) -> None:
        """The fact of a round's beginning, from the log."""
        self.begin_round(self._by_path[_path(told["scope"])], told["node_id"], told["round"], told["at"])

    def hear_end(self, told: Mapping[str, Any]) -> None:
        """The fact of a round's end, from the log."""
        self.end_round(self._by_path[(*_path(told["scope"]), (told["node_id"], told["round"]))], told["at"])

    def _forget(self, path: Path) -> None:
        for each in self.below(path):
            del self._by_path[each.path]


def _path(written: Any) -> Path:
    """A path as a fact has it, which was JSON once."""
    return tuple((str(node_id), int(number)) for node_id, number in written)
