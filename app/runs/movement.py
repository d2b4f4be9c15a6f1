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
from app.graph.plan import StepState, plan, predecessor

MOST_STEPS = 500  # a run that starts more nodes than Dify allows has lost its way


class Settled(msgspec.Struct, frozen=True):
    """A worker's inputs with nothing left to chance: a second attempt makes the same picture."""

    inputs: dict[str, Any]
    checkpoint: str | None


Settle = Callable[[WorkerCall], Settled]


class Movement:
    """One run on its way: `run` as it stands now, and the new steps, events and classes of work since the start."""

    def __init__(self, graph: Graph, run: Run, steps: Iterable[Step], released: int, settle: Settle) -> None:
        self.run = run
        self.new_steps: list[tuple[Step, str | None]] = []
        self.new_events: list[Event] = []
        self.rings: set[str] = set()
        self._graph = graph
        self._settle = settle
        self._released = released
        self._steps = {step.node_id: step for step in steps}
        self._states = {step.node_id: _state(step) for step in self._steps.values()}
        self._pool = first_pool(graph, run.inputs, system_variables(run))
        for step in self._steps.values():
            if step.outputs is not None:
                self._pool = self._pool.with_outputs(step.node_id, step.outputs)

    def begin(self) -> None:
        """The first fact: the run has started. Raises InvalidParam for inputs that no worker could use."""
        self._record(EventKind.RUN_STARTED)
        self._release_chunks()
        self._forward(refuse=True)

    def step_finished(self, step: Step) -> None:
        """A worker's attempt has ended for good; `step` says how. Goes on with whatever is possible now."""
        self._settle_step(step)
        self._forward(refuse=False)

    def step_retried(self, step: Step) -> None:
        """An attempt was lost; the step is ready again."""
        self.run = msgspec.structs.replace(self.run, total_steps=self.run.total_steps + 1)
        payload = {"retry_index": step.attempt, "error": step.error, "error_type": step.error_type}
        self._record(EventKind.STEP_RETRIED, step.id, payload)

    def end(self, status: RunStatus, error: str | None) -> None:
        """Ends the run, once: an ended run keeps its end."""
        if is_terminal(self.run.status):
            return
        finished = sorted(
            (step for step in self._steps.values() if step.outputs is not None), key=lambda step: step.finished_at or 0
        )
        self.run = msgspec.structs.replace(
            self.run,
            status=status,
            error=error,
            outputs=merge_outputs(self._graph, {step.node_id: step.outputs or {} for step in finished}),
            finished_at=clock.time(),
        )
        self._record(EventKind.RUN_FINISHED)

    def _forward(self, *, refuse: bool) -> None:
        """Asks the plan and does what it says, until only workers can go on or the run has ended."""
        while True:
            planned = plan(self._graph, self._states)
            if planned.ended is not None:
                self.end(planned.ended, self._first_error())
                return
            if not planned.start:
                return
            if len(self._steps) + len(planned.start) > MOST_STEPS:
                self.end(RunStatus.FAILED, f"Maximum execution steps exceeded: {MOST_STEPS + 1} > {MOST_STEPS}")
                return
            for node_id in planned.start:
                self._start(self._graph.nodes[node_id], refuse=refuse)

    def _start(self, node: Node, *, refuse: bool) -> None:
        step = Step(
            id=ids.new_id(),
            run_id=self.run.id,
            node_id=node.id,
            kind=node.kind,
            title=node.title,
            index=len(self._steps) + 1,
            status=StepStatus.READY,
            predecessor_node_id=predecessor(self._graph, self._states, node.id),
            created_at=clock.time(),
        )
        self.run = msgspec.structs.replace(self.run, total_steps=self.run.total_steps + 1)
        self._record(EventKind.STEP_STARTED, step.id)
        checkpoint = None
        try:
            done = execute(node, self._pool)
            if isinstance(done, WorkerCall):
                settled = self._settle(done)
                checkpoint = settled.checkpoint
                step = msgspec.structs.replace(step, work_class=done.work_class, inputs=settled.inputs)
                self.rings.add(done.work_class)
                self._note(step)
            else:
                step = _succeeded(step, done)
                self._settle_step(step)
        except (NodeFailed, InvalidParam) as error:
            if refuse and isinstance(error, InvalidParam):
                raise
            step = _failed(step, error)
            self._settle_step(step)
        self.new_steps.append((step, checkpoint))

    def _settle_step(self, step: Step) -> None:
        self._note(step)
        if step.outputs is not None:
            self._pool = self._pool.with_outputs(step.node_id, step.outputs)
        if step.status == StepStatus.EXCEPTION:
            self.run = msgspec.structs.replace(self.run, exceptions_count=self.run.exceptions_count + 1)
        self._release_chunks()
        self._record(EventKind.STEP_FINISHED, step.id)

    def _note(self, step: Step) -> None:
        self._steps[step.node_id] = step
        self._states[step.node_id] = _state(step)

    def _release_chunks(self) -> None:
        for chunk in due_chunks(self._graph, self._states, self._pool, self._released):
            self._released += 1
            self._record(EventKind.TEXT_CHUNK, None, {"selector": chunk.selector, "value": chunk.value})

    def _record(self, kind: EventKind, step_id: str | None = None, payload: dict[str, Any] | None = None) -> None:
        seq = self.run.last_seq + 1
        self.run = msgspec.structs.replace(self.run, last_seq=seq)
        self.new_events.append(Event(self.run.id, seq, kind, clock.time(), step_id, payload))

    def _first_error(self) -> str | None:
        return next((step.error for step in self._steps.values() if step.status == StepStatus.FAILED), None)


def system_variables(run: Run) -> dict[str, Any]:
    """What a document reads as `sys.*`."""
    return {
        "files": [],
        "user_id": run.user,
        "app_id": run.app_id,
        "workflow_id": run.workflow_id,
        "workflow_run_id": run.id,
    }


def _state(step: Step) -> StepState:
    return StepState(step.status, step.handle)


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
