"""A run being moved on, in memory: facts go in, and what a transaction is to write comes out.

Nothing here touches the store, a queue or a listener; `advance` does, with what this decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from app import clock, ids
from app.domain.event import Entry, Event, EventKind
from app.domain.form import NewForm
from app.domain.request import RunRequest
from app.domain.run import NewWork, Run, RunStatus, Step, StepStatus, is_terminal
from app.errors import InvalidParam, NodeFailed
from app.graph.execute import WorkerCall, first_pool, merge_outputs
from app.graph.graph import Graph, Node
from app.graph.nodes.kind import AskForm
from app.graph.plan import ending, predecessor, ready_nodes
from app.runs.voice import Voice

_INNER_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

MOST_STEPS = 500  # a run that starts more nodes than Dify allows has lost its way


# Looking up an enum's member is a call into Python, and this is the inner loop of every run.
_READY, _SUCCEEDED, _FAILED = StepStatus.READY, StepStatus.SUCCEEDED, StepStatus.FAILED
_EXCEPTION, _STEP_FINISHED = StepStatus.EXCEPTION, EventKind.STEP_FINISHED
_PAUSED = StepStatus.PAUSED
_RUN_STARTED, _RUN_FINISHED = Entry(EventKind.RUN_STARTED), Entry(EventKind.RUN_FINISHED)
_STEP_STARTED = Entry(EventKind.STEP_STARTED)


class Settled(msgspec.Struct, frozen=True):
    """A worker's inputs with nothing left to chance: a second attempt makes the same picture."""

    inputs: dict[str, Any]
    checkpoint: str | None


Settle = Callable[[WorkerCall], Settled]


class Movement:
    """One run on its way: what is new (entries of its log, work, whom to ring for), and how the run stands."""

    posting: RunRequest | None = None
    """The request, when webhooks of its own or of its app may want to hear that the run was accepted."""

    def __init__(self, graph: Graph, run: Run, told: Iterable[Event], settle: Settle) -> None:
        self._run = run
        self._told = run.last_seq
        self._total_steps = run.total_steps
        self._exceptions_count = run.exceptions_count
        self._total_tokens = run.total_tokens
        self.new_work: list[NewWork] = []
        self.new_entries: list[Entry] = []
        self.new_forms: list[NewForm] = []
        self.rings: set[str] = set()
        self._graph = graph
        self._settle = settle
        self._voice = Voice()
        self._asked: dict[str, Mapping[str, Any]] = {}  # what each step's form shows
        self._steps: dict[str, Step] = {}
        self._ended: dict[str, Step] = {}  # in the order in which they ended
        self._pool = first_pool(graph, run.inputs, system_variables(run))
        for event in told:
            self._voice.note(event)
            if event.step is not None:
                self._note(event.step)
                if event.kind is EventKind.FORM_REQUIRED:
                    self._asked[event.step.id] = event.payload or {}

    @property
    def run(self) -> Run:
        """The run with everything that has been recorded so far."""
        if self._run.last_seq != self._told + len(self.new_entries):
            self._run = self._moved()
        return self._run

    def begin(self) -> None:
        """The first fact: the run has started. Raises InvalidParam for inputs that no worker could use."""
        self.new_entries.append(_RUN_STARTED)
        if self._graph.start_id in self._graph.heard:
            self._release_chunks()
        self._forward(refuse=True)

    def step_finished(self, step: Step) -> None:
        """A worker's attempt has ended for good; `step` says how. Goes on with whatever is possible now."""
        self._settle_step(step)
        self._forward(refuse=False)

    def step_retried(self, step: Step) -> None:
        """An attempt was lost; the step is ready again."""
        self._total_steps += 1
        lost = {"retry_index": step.attempt, "error": step.error, "error_type": step.error_type, "at": clock.time()}
        self.new_entries.append(Entry(EventKind.STEP_RETRIED, step, lost))

    def told_by(self, step: Step) -> str | None:
        """What has been told of the text that a running step is at; None while it is not its turn to speak."""
        return self._voice.told_by(step, self._graph, self._steps, self._pool)

    def form_answered(self, step_id: str, kind: EventKind, outputs: dict[str, Any], handle: str) -> None:
        """A form was filled in, or nobody did in time (`kind` says which): the run leaves its node by the handle."""
        step = next(step for step in self._steps.values() if step.id == step_id)
        if self._run.status is RunStatus.PAUSED:
            self.new_entries.append(Entry(EventKind.RUN_RESUMED))
            self._run = self._moved(status=RunStatus.RUNNING)
        self.new_entries.append(Entry(kind, step, {"outputs": outputs, "form": self._asked.get(step_id)}))
        done = {"status": _SUCCEEDED, "handle": handle, "outputs": outputs, "finished_at": clock.time()}
        self.step_finished(msgspec.structs.replace(step, **done))

    @property
    def has_forms(self) -> bool:
        """True when a form of this run may still be waiting."""
        return bool(self._asked)

    def end(self, status: RunStatus, error: str | None, code: str | None = None) -> None:
        """Ends the run, once: an ended run keeps its end. `code` says to programs what `error` says to people."""
        if is_terminal(self._run.status):
            return
        self.new_entries.append(_RUN_FINISHED)
        outputs = merge_outputs(self._graph, {node_id: step.outputs or {} for node_id, step in self._ended.items()})
        self._run = self._moved(status=status, error=error, error_code=code, outputs=outputs, finished_at=clock.time())

    def _forward(self, *, refuse: bool) -> None:
        """Starts what can be started; nodes that only compute are run, so that a pass goes as far as it can."""
        for node_id in ready_nodes(self._graph, self._steps):
            if len(self._steps) >= MOST_STEPS:
                said = f"Maximum execution steps exceeded: {MOST_STEPS + 1} > {MOST_STEPS}"
                self.end(RunStatus.FAILED, said, "too_many_steps")
                return
            self._start(self._graph.nodes[node_id], refuse=refuse)
            if self._steps[node_id].status is _FAILED:
                break
        status = ending(self._graph, self._steps)
        if status is None:
            if self._asked:
                self._pause_if_idle()
        else:
            failed = self._first_failed()
            if failed is None:
                self.end(status, None)
            else:
                self.end(status, failed.error, error_code(failed.error_type))

    def _start(self, node: Node, *, refuse: bool) -> None:
        begun_at = clock.time()
        status, error, error_type = _SUCCEEDED, None, None
        handle = outputs = process_data = metadata = work_class = checkpoint = None
        arguments: Mapping[str, Any] = {}
        inputs: Mapping[str, Any] | None = None
        form: AskForm | None = None
        try:
            done = node.work.execute(self._pool)
            if isinstance(done, AskForm):
                status, inputs, form = _PAUSED, done.inputs, done
            elif isinstance(done, WorkerCall):
                settled = self._settle(done)
                status, work_class = _READY, done.work_class
                inputs, checkpoint, arguments = settled.inputs, settled.checkpoint, done.arguments
            else:
                handle, inputs, outputs, process_data = done.handle, done.inputs, done.outputs, done.process_data
                metadata = done.metadata
        except (NodeFailed, InvalidParam) as reason:
            if refuse and isinstance(reason, InvalidParam):
                reason.at_node(node.id, node.title)
                raise
            status, error = _FAILED, reason.message
            error_type = reason.error_type if isinstance(reason, NodeFailed) else type(reason).__name__
        step = Step(
            id=ids.new_id(),
            run_id=self._run.id,
            node_id=node.id,
            kind=node.kind,
            title=node.title,
            index=len(self._steps) + 1,
            status=status,
            predecessor_node_id=predecessor(self._graph, self._steps, node.id),
            work_class=work_class,
            handle=handle,
            inputs=inputs,
            outputs=outputs,
            process_data=process_data,
            error=error,
            error_type=error_type,
            created_at=begun_at,
            finished_at=None if work_class or form else clock.time(),
            metadata=metadata,
        )
        self._total_steps += 1
        if form is not None:
            self._ask(step, form)
        elif work_class is None:
            self.new_entries.append(_STEP_STARTED)
            self._settle_step(step)
        else:
            self.new_entries.append(Entry(EventKind.STEP_STARTED, step))
            self.new_work.append(NewWork(step, checkpoint, arguments))
            self.rings.add(work_class)
            self._note(step)

    def _ask(self, step: Step, asked: AskForm) -> None:
        form = NewForm(ids.new_id(), ids.new_token(), step.id, step.node_id, asked.form, asked.timeout_s)
        self.new_forms.append(form)
        self.new_entries.append(Entry(EventKind.STEP_STARTED, step))
        shown = {
            "form_id": form.id,
            "node_id": step.node_id,
            "node_title": step.title,
            **asked.form,
            "display_in_ui": False,
            "form_token": form.token,
            "expiration_time": int(clock.time() + asked.timeout_s),
        }
        self._asked[step.id] = shown
        self.new_entries.append(Entry(EventKind.FORM_REQUIRED, step, shown))
        self._note(step)

    def _pause_if_idle(self) -> None:
        """Where nothing goes on but forms that wait for people, the run pauses: it holds no worker, its time stops."""
        waiting = [step for step in self._steps.values() if step.finished_at is None]
        if not waiting or any(step.status is not _PAUSED for step in waiting):
            return
        told = {
            "paused_nodes": [step.node_id for step in waiting],
            "reasons": [self._asked[step.id] for step in waiting],
            "at": clock.time(),
        }
        self.new_entries.append(Entry(EventKind.RUN_PAUSED, None, told))
        self._run = self._moved(status=RunStatus.PAUSED)

    def _settle_step(self, step: Step) -> None:
        self._note(step)
        if step.metadata is not None:
            self._total_tokens += int(step.metadata.get("total_tokens") or 0)
        if step.status is _EXCEPTION:
            self._exceptions_count += 1
        if step.node_id in self._graph.heard:
            self._release_chunks()
        self.new_entries.append(Entry(_STEP_FINISHED, step))

    def _note(self, step: Step) -> None:
        self._steps[step.node_id] = step
        if step.finished_at is not None:
            self._ended[step.node_id] = step
        if step.outputs is not None:
            self._pool.add(step.node_id, step.outputs)

    def _release_chunks(self) -> None:
        self.new_entries += self._voice.release(self._graph, self._steps, self._pool)

    def _moved(self, **changes: Any) -> Run:
        return msgspec.structs.replace(
            self._run,
            last_seq=self._told + len(self.new_entries),
            total_steps=self._total_steps,
            exceptions_count=self._exceptions_count,
            total_tokens=self._total_tokens,
            **changes,
        )

    def _first_failed(self) -> Step | None:
        return next((step for step in self._ended.values() if step.status is _FAILED), None)


def error_code(error_type: str | None) -> str:
    """A node's error type as the code of its run's end: `OutOfMemory` is `out_of_memory`."""
    return _INNER_CAPITAL.sub("_", error_type or "node_failed").lower()


def system_variables(run: Run) -> dict[str, Any]:
    """What a document reads as `sys.*`."""
    return {
        "files": [],
        "user_id": run.user,
        "app_id": run.app_id,
        "workflow_id": run.workflow_id,
        "workflow_run_id": run.id,
    }
