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
from app.domain.request import RunRequest
from app.domain.run import Failed, NewWork, Run, RunStatus, Step, StepStatus, is_terminal
from app.errors import InvalidParam, NodeFailed
from app.graph.answer import due_chunks
from app.graph.execute import Completed, WorkerCall, first_pool, merge_outputs
from app.graph.graph import Graph, Node
from app.graph.nodes.loop import LoopEnd
from app.graph.plan import ending, predecessor, ready_nodes
from app.graph.rounds import Container, Rounds
from app.graph.selectors import Selector
from app.graph.values import Value
from app.runs.scopes import Scope, Scopes

_INNER_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

MOST_STEPS = 500  # a run that starts more nodes than Dify allows has lost its way


# Looking up an enum's member is a call into Python, and this is the inner loop of every run.
_READY, _SUCCEEDED, _FAILED = StepStatus.READY, StepStatus.SUCCEEDED, StepStatus.FAILED
_RUNNING, _EXCEPTION = StepStatus.RUNNING, StepStatus.EXCEPTION
_STEP_FINISHED, _TEXT_CHUNK = EventKind.STEP_FINISHED, EventKind.TEXT_CHUNK
_RUN_STARTED, _RUN_FINISHED = Entry(EventKind.RUN_STARTED), Entry(EventKind.RUN_FINISHED)
_STEP_STARTED = Entry(EventKind.STEP_STARTED)


class Settled(msgspec.Struct, frozen=True):
    """A worker's inputs with nothing left to chance: a second attempt makes the same picture."""

    inputs: dict[str, Any]
    checkpoint: str | None


Settle = Callable[[WorkerCall], Settled]


class _TooManySteps(Exception):
    pass


class Movement:
    """One run on its way: what is new (entries of its log, work, whom to ring for), and how the run stands.

    A container's step is `running` without a row of its own while its rounds go on, and ends with the last of them.
    Each round is a `Scope` with its own steps and pool.
    """

    posting: RunRequest | None = None
    """The request, when webhooks of its own or of its app may want to hear that the run was accepted."""

    def __init__(self, graph: Graph, run: Run, told: Iterable[Event], settle: Settle) -> None:
        self._run = run
        self._told = run.last_seq
        self._total_steps = run.total_steps
        self._total_tokens = run.total_tokens
        self._exceptions_count = run.exceptions_count
        self.new_work: list[NewWork] = []
        self.new_entries: list[Entry] = []
        self.rings: set[str] = set()
        self.halted: list[Step] = []
        """Workers' steps that nobody waits for any more, though the run goes on."""
        self._graph = graph
        self._settle = settle
        self._released = 0
        self._started = 0
        self._empty_rounds = 0
        self._retries: dict[str, int] = {}
        self._top = Scope(graph, graph, first_pool(graph, run.inputs, system_variables(run)))
        self._scopes = Scopes(self._top)
        for event in told:
            self._hear(event)

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
        self._go_on(self._top, refuse=True)

    def step_finished(self, step: Step) -> None:
        """A worker's attempt has ended for good; `step` says how. Goes on with whatever is possible now."""
        scope = self._scopes.of(step)
        self._settle_step(scope, step)
        self._go_on(scope)

    def failed_step(self, held: Step, why: Failed) -> Step:
        """The step of a worker's attempt that failed for good, as its node's error strategy leaves it."""
        ended, strategy = _failed(self._scopes.node(held), why.error, why.error_type)
        if strategy is None:
            ended["outputs"] = why.outputs
        metadata = {**(held.metadata or {}), **(strategy or {})} or None
        at = clock.time()
        return msgspec.structs.replace(held, **ended, process_data=why.process_data, metadata=metadata, finished_at=at)

    def retry_delay_s(self, held: Step) -> float | None:
        """How long to wait before the step is tried again as its document wants it; None: it is not."""
        policy = self._scopes.node(held).retry
        return policy.interval_s if policy and self.retries_of(held) < policy.max_retries else None

    def retries_of(self, step: Step) -> int:
        """How often it was tried again because its document wants it so: those attempts were not lost."""
        return self._retries.get(step.id, 0)

    def step_retried(self, step: Step, *, configured: bool = False) -> None:
        """An attempt was lost, or failed and is tried again as the document wants it; the step is ready again."""
        number = step.attempt
        lost = {"retry_index": number, "error": step.error, "error_type": step.error_type, "at": clock.time()}
        if configured:
            lost |= {"retry_index": self.retries_of(step) + 1, "configured": True}
        else:
            self._total_steps += 1
        self.new_entries.append(Entry(EventKind.STEP_RETRIED, step, lost))

    def end(self, status: RunStatus, error: str | None, code: str | None = None) -> None:
        """Ends the run, once: an ended run keeps its end. `code` says to programs what `error` says to people."""
        if is_terminal(self._run.status):
            return
        self.new_entries.append(_RUN_FINISHED)
        ended = self._top.ended
        outputs = merge_outputs(self._graph, {node_id: step.outputs or {} for node_id, step in ended.items()})
        self._run = self._moved(status=status, error=error, error_code=code, outputs=outputs, finished_at=clock.time())

    def _hear(self, event: Event) -> None:
        """What has happened before, from the log."""
        kind, step, payload = event.kind, event.step, event.payload or {}
        if kind is _TEXT_CHUNK:
            self._released += 1
        elif kind is EventKind.ROUND_STARTED:
            self._scopes.hear_begin(payload)
        elif kind is EventKind.ROUND_FINISHED:
            self._scopes.hear_end(payload)
        elif step is not None:
            self._hear_of_step(kind, step, payload)

    def _hear_of_step(self, kind: EventKind, step: Step, payload: Mapping[str, Any]) -> None:
        scope = self._scopes.of(step)
        if kind is EventKind.STEP_STARTED:
            self._started += 1
        elif kind is EventKind.STEP_RETRIED:
            self._retries[step.id] = self.retries_of(step) + bool(payload.get("configured"))
        elif kind is EventKind.ROUNDS_STARTED:
            scope.reopen(step.node_id)
        elif step.node_id in scope.rounds:
            self._scopes.end_container(scope, step.node_id)
        for selector, value in payload.get("assigned") or ():
            scope.pool.assign(tuple(selector), value)
        scope.pool.assigned.clear()
        self._note(scope, step)

    def _go_on(self, scope: Scope, *, refuse: bool = False) -> None:
        """Starts what can be started, in the scope and, as rounds and their containers end, in those around it."""
        try:
            self._pass(scope, refuse=refuse)
            while scope.path and self._close(scope):
                around = self._scopes.around(scope)
                if not self._drive(around, scope.path[-1][0]):
                    return
                scope = around
                self._pass(scope)
        except _TooManySteps:
            said = f"Maximum execution steps exceeded: {MOST_STEPS + 1} > {MOST_STEPS}"
            self.end(RunStatus.FAILED, said, "too_many_steps")
            return
        if scope.path:
            return
        status = ending(self._graph, scope.steps)
        if status is not None:
            failed = scope.first_failed
            if failed is None:
                self.end(status, None)
            else:
                self.end(status, failed.error, error_code(failed.error_type))

    def _pass(self, scope: Scope, *, refuse: bool = False) -> None:
        """Starts what can be started; nodes that only compute are run, so that a pass goes as far as it can."""
        for node_id in ready_nodes(scope.body, scope.steps):
            if self._started >= MOST_STEPS:
                raise _TooManySteps
            self._start(scope, scope.body.nodes[node_id], refuse=refuse)
            if scope.steps[node_id].status is _FAILED:
                break

    def _start(self, scope: Scope, node: Node, *, refuse: bool) -> None:
        begun_at = clock.time()
        status, error, error_type = _SUCCEEDED, None, None
        handle = outputs = process_data = metadata = work_class = checkpoint = rounds = None
        arguments: Mapping[str, Any] = {}
        inputs: Mapping[str, Any] | None = None
        try:
            done = node.work.execute(scope.pool)
            if isinstance(done, Completed):
                handle, inputs, outputs, process_data = done.handle, done.inputs, done.outputs, done.process_data
                metadata = done.metadata
            elif isinstance(done, WorkerCall):
                settled = self._settle(done)
                status, work_class, inputs = _READY, done.work_class, settled.inputs
                checkpoint, arguments = settled.checkpoint, done.arguments
            else:
                status, rounds, inputs = _RUNNING, done, done.inputs
        except (NodeFailed, InvalidParam) as reason:
            if refuse and isinstance(reason, InvalidParam) and node.strategy is None:
                reason.at_node(node.id, node.title)
                raise
            kind = reason.error_type if isinstance(reason, NodeFailed) else type(reason).__name__
            ended, metadata = _failed(node, reason.message, kind)
            status, handle, outputs = ended["status"], ended["handle"], ended["outputs"]
            error, error_type = reason.message, kind
        self._started += 1
        self._total_steps += 1
        step = Step(
            id=ids.new_id(),
            run_id=self._run.id,
            node_id=node.id,
            kind=node.kind,
            title=node.title,
            index=self._started,
            status=status,
            predecessor_node_id=predecessor(scope.body, scope.steps, node.id),
            work_class=work_class,
            handle=handle,
            inputs=inputs,
            outputs=outputs,
            process_data=process_data,
            error=error,
            error_type=error_type,
            created_at=begun_at,
            finished_at=clock.time() if work_class is None and rounds is None else None,
            scope=scope.path,
            metadata=scope.metadata(metadata),
        )
        if rounds is not None:
            self._open(scope, step, rounds)
        elif work_class is None:
            self.new_entries.append(_STEP_STARTED)
            self._settle_step(scope, step)
        else:
            self.new_entries.append(Entry(EventKind.STEP_STARTED, step))
            self.new_work.append(NewWork(step, checkpoint, arguments))
            self.rings.add(work_class)
            scope.note(step)

    def _settle_step(self, scope: Scope, step: Step) -> None:
        """A step has ended; what it has assigned is kept with the fact."""
        self._note(scope, step)
        if scope is self._top:
            self._exceptions_count += step.status is _EXCEPTION
            if step.node_id in self._graph.heard:
                self._release_chunks()
        if step.metadata is not None and not isinstance(scope.body.nodes[step.node_id].work, Container):
            self._total_tokens += step.metadata.get("total_tokens") or 0
        said: dict[str, list[tuple[Selector, Value]]] | None = None
        if scope.pool.assigned:
            said = {"assigned": scope.pool.assigned[:]}
            scope.pool.assigned.clear()
        self.new_entries.append(Entry(_STEP_FINISHED, step, said))

    def _note(self, scope: Scope, step: Step) -> None:
        scope.note(step)
        if step.kind == LoopEnd.kind and step.status is _SUCCEEDED:
            self._scopes.break_loop(scope.path)

    def _open(self, scope: Scope, step: Step, rounds: Rounds) -> None:
        self.new_entries += (_STEP_STARTED, Entry(EventKind.ROUNDS_STARTED, step, {"length": rounds.length}))
        scope.note(step)
        scope.rounds[step.node_id] = rounds
        self._drive(scope, step.node_id)

    def _drive(self, scope: Scope, node_id: str) -> bool:
        """Begins the container's rounds that are due, and those that come due as they end. True once it has ended."""
        rounds = scope.rounds[node_id]
        while not rounds.have_ended:
            due = rounds.due
            if not due:
                return False
            for number in due:
                self._begin_round(scope, node_id, number)
                if rounds.have_ended:
                    break
        self._end_container(scope, node_id, rounds)
        return True

    def _begin_round(self, scope: Scope, node_id: str, number: int) -> None:
        """Goes as far as it can, which may be its end."""
        at = clock.time()
        inner = self._scopes.begin_round(scope, node_id, number, at)
        if len(inner.body.nodes) == len(inner.steps):
            self._empty_rounds += 1
            if self._empty_rounds > MOST_STEPS:
                raise _TooManySteps
        self.new_entries.append(Entry(EventKind.ROUND_STARTED, None, self._scopes.told_of(inner) | {"at": at}))
        self._pass(inner)
        self._close(inner)

    def _close(self, scope: Scope) -> bool:
        """Ends the round if nothing of it goes on; a failed step ends it at once, whatever else is under way."""
        status = ending(scope.body, scope.steps)
        if status is None:
            return False
        at = clock.time()
        if status is RunStatus.FAILED:
            self._stop_below(scope)
        told = self._scopes.told_of(scope)
        rounds = self._scopes.end_round(scope, at)
        said = {"at": at, "status": status, "left": rounds.left, "goes_on": not rounds.is_over}
        self.new_entries.append(Entry(EventKind.ROUND_FINISHED, None, told | said))
        return True

    def _end_container(self, scope: Scope, node_id: str, rounds: Rounds) -> None:
        step, node = scope.steps[node_id], scope.body.nodes[node_id]
        for under_way in self._scopes.rounds_of(scope, node_id):
            self._stop_below(under_way)
        self._scopes.end_container(scope, node_id)
        try:
            done = rounds.outcome()
            end: dict[str, Any] = {"status": _SUCCEEDED, "handle": done.handle, "outputs": done.outputs}
            metadata = {**(done.metadata or {})}
        except NodeFailed as reason:
            end, strategy = _failed(node, reason.message, reason.error_type)
            metadata = {**rounds.metadata(), **(strategy or {})}
        at = clock.time()
        ended = msgspec.structs.replace(step, **end, metadata=scope.metadata(metadata), finished_at=at)
        self._settle_step(scope, ended)

    def _stop_below(self, scope: Scope) -> None:
        """Ends what still goes on in the round and in rounds inside it, the innermost first."""
        for inner in self._scopes.below(scope.path):
            for step in inner.open_steps:
                stopped = msgspec.structs.replace(step, status=StepStatus.STOPPED, finished_at=clock.time())
                inner.note(stopped)
                self.new_entries.append(Entry(_STEP_FINISHED, stopped))
                if step.work_class is not None:
                    self.halted.append(step)
        unwanted = {step.id for step in self.halted}
        self.new_work = [work for work in self.new_work if work.step.id not in unwanted]

    def _release_chunks(self) -> None:
        for chunk in due_chunks(self._graph, self._top.steps, self._top.pool, self._released):
            self._released += 1
            said = {"selector": chunk.selector, "value": chunk.value}
            self.new_entries.append(Entry(_TEXT_CHUNK, None, said))

    def _moved(self, **changes: Any) -> Run:
        return msgspec.structs.replace(
            self._run,
            last_seq=self._told + len(self.new_entries),
            total_steps=self._total_steps,
            exceptions_count=self._exceptions_count,
            total_tokens=self._total_tokens,
            **changes,
        )


def _failed(node: Node, error: str, error_type: str | None) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """(what a step becomes that has failed, as its node's error strategy has it; what its metadata say of that)."""
    said = {"error": error, "error_type": error_type}
    if node.strategy is None:
        return {"status": _FAILED, "handle": None, "outputs": None, **said}, None
    outputs = node.strategy.outputs(error, error_type)
    taken = {"status": _EXCEPTION, "handle": node.strategy.handle, "outputs": outputs, **said}
    return taken, {"error_strategy": node.strategy.name}


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
