"""A run being moved on, in memory: facts go in, and what a transaction is to write comes out.

Nothing here touches the store, a queue or a listener; `advance` does, with what this decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from app import clock, ids
from app.domain.event import Event, EventKind
from app.domain.run import Run, RunStatus, Step, StepStatus, is_terminal
from app.errors import InvalidParam, NodeFailed
from app.graph.answer import due_chunks
from app.graph.execute import Completed, WorkerCall, execute, first_pool, merge_outputs
from app.graph.graph import Graph, Node
from app.graph.plan import ending, predecessor, ready_nodes

MOST_STEPS = 500  # a run that starts more nodes than Dify allows has lost its way


class Settled(msgspec.Struct, frozen=True):
    """A worker's inputs with nothing left to chance: a second attempt makes the same picture."""

    inputs: dict[str, Any]
    checkpoint: str | None


Settle = Callable[[WorkerCall], Settled]


class Movement:
    """One run on its way: new events, new work and whom to ring for since the start, and the run as it stands."""

    def __init__(self, graph: Graph, run: Run, told: Iterable[Event], settle: Settle) -> None:
        self._run = run
        self._seq = run.last_seq
        self._total_steps = run.total_steps
        self._exceptions_count = run.exceptions_count
        self.new_work: list[tuple[Step, str | None]] = []
        self.new_events: list[Event] = []
        self.rings: set[str] = set()
        self._graph = graph
        self._settle = settle
        self._released = 0
        self._steps: dict[str, Step] = {}
        self._ended: dict[str, Step] = {}  # in the order in which they ended
        self._pool = first_pool(graph, run.inputs, system_variables(run))
        for event in told:
            self._released += event.kind is EventKind.TEXT_CHUNK
            if event.step is not None:
                self._note(event.step)

    @property
    def run(self) -> Run:
        return msgspec.structs.replace(
            self._run,
            last_seq=self._seq,
            total_steps=self._total_steps,
            exceptions_count=self._exceptions_count,
        )

    def begin(self) -> None:
        """The first fact: the run has started. Raises InvalidParam for inputs that no worker could use."""
        self._record(EventKind.RUN_STARTED)
        self._release_chunks(self._graph.start_id)
        self._forward(refuse=True)

    def step_finished(self, step: Step) -> None:
        """A worker's attempt has ended for good; `step` says how. Goes on with whatever is possible now."""
        self._settle_step(step)
        self._forward(refuse=False)

    def step_retried(self, step: Step) -> None:
        """An attempt was lost; the step is ready again."""
        self._total_steps += 1
        payload = {"retry_index": step.attempt, "error": step.error, "error_type": step.error_type}
        self._record(EventKind.STEP_RETRIED, step, payload)

    def end(self, status: RunStatus, error: str | None) -> None:
        """Ends the run, once: an ended run keeps its end."""
        if is_terminal(self._run.status):
            return
        self._run = msgspec.structs.replace(
            self._run,
            status=status,
            error=error,
            outputs=merge_outputs(self._graph, {node_id: step.outputs or {} for node_id, step in self._ended.items()}),
            finished_at=clock.time(),
        )
        self._record(EventKind.RUN_FINISHED)

    def _forward(self, *, refuse: bool) -> None:
        """Starts what can be started; nodes that only compute are run, so that a pass goes as far as it can."""
        for node_id in ready_nodes(self._graph, self._steps):
            if len(self._steps) >= MOST_STEPS:
                self.end(RunStatus.FAILED, f"Maximum execution steps exceeded: {MOST_STEPS + 1} > {MOST_STEPS}")
                return
            self._start(self._graph.nodes[node_id], refuse=refuse)
            if self._steps[node_id].status is StepStatus.FAILED:
                break
        status = ending(self._graph, self._steps)
        if status is not None:
            self.end(status, self._first_error())

    def _start(self, node: Node, *, refuse: bool) -> None:
        step = Step(
            id=ids.new_id(),
            run_id=self._run.id,
            node_id=node.id,
            kind=node.kind,
            title=node.title,
            index=len(self._steps) + 1,
            status=StepStatus.READY,
            predecessor_node_id=predecessor(self._graph, self._steps, node.id),
            created_at=clock.time(),
        )
        self._total_steps += 1
        self._record(EventKind.STEP_STARTED, step)
        try:
            done = execute(node, self._pool)
            if isinstance(done, WorkerCall):
                settled = self._settle(done)
                step = msgspec.structs.replace(step, work_class=done.work_class, inputs=settled.inputs)
                self.new_work.append((step, settled.checkpoint))
                self.rings.add(done.work_class)
                self._note(step)
            else:
                self._settle_step(_succeeded(step, done))
        except (NodeFailed, InvalidParam) as error:
            if refuse and isinstance(error, InvalidParam):
                raise
            self._settle_step(_failed(step, error))

    def _settle_step(self, step: Step) -> None:
        self._note(step)
        if step.status is StepStatus.EXCEPTION:
            self._exceptions_count += 1
        self._release_chunks(step.node_id)
        self._record(EventKind.STEP_FINISHED, step)

    def _note(self, step: Step) -> None:
        self._steps[step.node_id] = step
        if step.finished_at is not None:
            self._ended[step.node_id] = step
        if step.outputs is not None:
            self._pool = self._pool.with_outputs(step.node_id, step.outputs)

    def _release_chunks(self, node_id: str) -> None:
        if node_id not in self._graph.heard:
            return
        for chunk in due_chunks(self._graph, self._steps, self._pool, self._released):
            self._released += 1
            self._record(EventKind.TEXT_CHUNK, None, {"selector": chunk.selector, "value": chunk.value})

    def _record(self, kind: EventKind, step: Step | None = None, payload: dict[str, Any] | None = None) -> None:
        self._seq += 1
        self.new_events.append(Event(self._run.id, self._seq, kind, clock.time(), step, payload))

    def _first_error(self) -> str | None:
        return next((step.error for step in self._ended.values() if step.status is StepStatus.FAILED), None)


def system_variables(run: Run) -> dict[str, Any]:
    """What a document reads as `sys.*`."""
    return {
        "files": [],
        "user_id": run.user,
        "app_id": run.app_id,
        "workflow_id": run.workflow_id,
        "workflow_run_id": run.id,
    }


def _succeeded(step: Step, done: Completed) -> Step:
    return msgspec.structs.replace(
        step,
        status=StepStatus.SUCCEEDED,
        handle=done.handle,
        inputs=done.inputs,
        outputs=done.outputs,
        process_data=done.process_data,
        finished_at=clock.time(),
    )


def _failed(step: Step, error: NodeFailed | InvalidParam) -> Step:
    return msgspec.structs.replace(
        step,
        status=StepStatus.FAILED,
        error=error.message,
        error_type=error.error_type if isinstance(error, NodeFailed) else type(error).__name__,
        finished_at=clock.time(),
    )
