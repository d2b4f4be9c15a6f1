"""A run is rebuilt from its facts before each step's end: that comes to the same as keeping it in memory.

The graphs are drawn by chance, containers in containers; their workers end in any order, and some fail.
"""

from __future__ import annotations

import random
from itertools import count
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.event import EventKind
from app.domain.run import Failed, Run, RunStatus, Step, StepStatus, is_terminal
from app.graph.graph import Graph, load_graph
from app.graph.nodes.kind import WorkerCall
from app.runs.movement import Movement, Settled
from app.store.rows import events_from, to_json
from tests.unit.drawing import branch, condition, draw, end, inside, iteration, loop, start, template, tool

NEW = Run("r", "t", "app", "w", "user", RunStatus.RUNNING, {"items": ["a", "b"]}, {}, None, 0, 0, 0, 1.0)
VALUES = {"start": "items", "iteration": "output", "loop": "loop_round", "tool": "text", "if-else": "result"}
MODES = ["terminated", "continue-on-error", "remove-abnormal-output"]

Drawn = tuple[list[dict[str, Any]], list[str]]


class Course:
    """A run on its way, rebuilt from its log before each step's end, or kept."""

    def __init__(self, graph: Graph, *, is_kept: bool) -> None:
        self.graph, self.is_kept = graph, is_kept
        self.rows: list[tuple[int, str]] = []
        self.run, self.open = NEW, dict[str, Step]()
        self._movement = self._rebuilt()
        self._movement.begin()
        self._note()

    def work_off(self, chance: random.Random, breaks: str) -> Run:
        """Steps end in a random order; one fails when its prompt has `breaks` in it."""
        while not is_terminal(self.run.status):
            step = chance.choice(sorted(self.open.values(), key=lambda step: (step.scope, step.node_id)))
            del self.open[step.id]
            if not self.is_kept:
                self._movement = self._rebuilt()
            prompt = str((step.inputs or {})["prompt"])
            if breaks and breaks in prompt:
                ended = self._movement.failed_step(step, Failed("It broke.", "Broken"))
            else:
                made = {"text": f"<{prompt[:20]}>"}
                ended = msgspec.structs.replace(step, status=StepStatus.SUCCEEDED, outputs=made, finished_at=1.0)
            self._movement.step_finished(ended)
            self._note()
        return self.run

    def told(self) -> list[tuple[Any, ...]]:
        """All facts, without ids and times."""
        events = [event for row in self.rows for event in events_from("r", row)]
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        return [(event.kind, event.step and _seen(event.step)) for event in events]

    def _rebuilt(self) -> Movement:
        told = [event for row in self.rows for event in events_from("r", row)]
        return Movement(self.graph, self.run, told, _settle)

    def _note(self) -> None:
        movement, before = self._movement, self.run.last_seq
        self.run = movement.run
        new = movement.new_entries[before - self.run.last_seq :]
        self.rows.append((before + 1, to_json(new)))
        self.open |= {work.step.id: work.step for work in movement.new_work}
        for halted in movement.halted:
            self.open.pop(halted.id, None)
        movement.new_work.clear()


def _settle(call: WorkerCall) -> Settled:
    return Settled(dict(call.inputs), None)


def _seen(step: Step) -> tuple[Any, ...]:
    return step.node_id, step.scope, step.index, step.status, step.outputs, step.error


@st.composite
def levels(choose: Any, names: Any, known: list[list[str]], depth: int) -> tuple[Drawn, list[list[str]]]:
    """A few nodes, each behind one or two before it or at the entrance, and the values that they give."""
    nodes: list[dict[str, Any]] = []
    edges: list[str] = []
    values: list[list[str]] = []
    heads: list[tuple[str, bool, list[list[str]]]] = [("", False, known)]  # id, whether it branches, what it knows
    for _ in range(choose(st.integers(1, 3))):
        name, readable = f"n{next(names)}", list(known)
        for head, branches, knows in choose(st.lists(st.sampled_from(heads), min_size=1, max_size=2, unique_by=id)):
            edges.append(f"{head}{choose(st.sampled_from([' yes', ' false'])) if branches else ''} > {name}")
            readable += [value for value in knows if value not in readable]
        made, inner_edges = choose(pieces(names, name, readable, depth))
        nodes += made
        edges += inner_edges
        kind = made[0]["data"]["type"]
        values.append([name, VALUES.get(kind, "output")])
        heads.append((name, kind == "if-else", [*readable, values[-1]]))
    return (nodes, edges), values


@st.composite
def pieces(choose: Any, names: Any, name: str, known: list[list[str]], depth: int) -> Drawn:
    """One node that reads something known, with all that is inside it."""
    source = choose(st.sampled_from(known))
    kinds = ["template", "tool", "tool", "branch", *(["iteration", "loop"] if depth < 2 else [])]
    kind = choose(st.sampled_from(kinds))
    if kind == "template":
        return [template(name, "{{ v }}", v=source)], []
    if kind == "tool":
        return [tool(name, prompt=f"{name} {{{{#{'.'.join(source)}#}}}}")], []
    if kind == "branch":
        return [branch(name, yes=[condition(["start", "items"], "contains", choose(st.sampled_from("ac")))])], []
    item = [[name, "item"]] if kind == "iteration" else []
    (inner, edges), values = choose(levels(names, [*known, *item], depth + 1))
    edges = [f"{name}start{edge}" if edge.startswith(" ") else edge for edge in edges]
    if kind == "loop":
        return inside(loop(name, choose(st.integers(1, 2))), *inner), edges
    more = {"is_parallel": choose(st.booleans()), "error_handle_mode": choose(st.sampled_from(MODES))}
    if choose(st.booleans()):
        more |= {"error_strategy": "default-value", "default_value": []}
    output = choose(st.sampled_from(values))
    return inside(iteration(name, ["start", "items"], output, **more), *inner), edges


@st.composite
def graphs(choose: Any) -> Graph:
    (nodes, edges), values = choose(levels(count(), [["start", "items"]], 0))
    edges = [f"start{edge}" if edge.startswith(" ") else edge for edge in edges]
    last = end(**{node_id: [node_id, name] for node_id, name in values})
    return load_graph(draw([start(), *nodes, last], [*edges, *(f"{node_id} > end" for node_id, _ in values)]))


COURSES = settings(deadline=None, max_examples=120)


@COURSES
@given(graphs(), st.integers(0, 2**32), st.sampled_from(["", "", "a", "n1"]))
def test_what_is_rebuilt_goes_on_as_what_was_kept(graph: Graph, seed: int, breaks: str) -> None:
    kept, rebuilt = Course(graph, is_kept=True), Course(graph, is_kept=False)
    run, again = kept.work_off(random.Random(seed), breaks), rebuilt.work_off(random.Random(seed), breaks)
    assert rebuilt.told() == kept.told()
    assert (again.status, again.outputs, again.error) == (run.status, run.outputs, run.error)
    assert (again.total_steps, again.exceptions_count) == (run.total_steps, run.exceptions_count)


@COURSES
@given(graphs(), st.integers(0, 2**32))
def test_the_order_of_workers_changes_nothing(graph: Graph, seed: int) -> None:
    runs = [Course(graph, is_kept=True).work_off(random.Random(seed + n), "") for n in range(2)]
    assert (runs[0].status, runs[0].outputs) == (runs[1].status, runs[1].outputs)


@COURSES
@given(graphs(), st.integers(0, 2**32), st.sampled_from(["", "a", "n1"]))
def test_every_step_of_a_run_that_goes_through_ends_once(graph: Graph, seed: int, breaks: str) -> None:
    course = Course(graph, is_kept=True)
    run = course.work_off(random.Random(seed), breaks)
    told = course.told()
    begun = [step[:3] for kind, step in told if kind is EventKind.STEP_STARTED and step]
    ended = [step[:3] for kind, step in told if kind is EventKind.STEP_FINISHED and step]
    assert len(set(begun)) == len(begun)
    assert len(set(ended)) == len(ended)
    assert [index for *_, index in sorted(begun, key=lambda step: step[2])] == list(range(1, len(begun) + 1))
    if run.status is not RunStatus.FAILED:
        assert sorted(begun) == sorted(ended)
