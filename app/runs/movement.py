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
from app.domain.run import CALLED_WORKFLOW, Failed, NewWork, Run, RunStatus, Step, StepStatus
from app.errors import InvalidParam, NodeFailed
from app.graph.calls import MOST_CALLS, CallRounds
from app.graph.execute import AppCall, AskForm, Completed, WorkerCall
from app.graph.graph import Graph, Node
from app.graph.plan import ending, predecessor, ready_nodes
from app.graph.rounds import Rounds
from app.runs.record import NOTHING_ELSE, Library, Record
from app.runs.scopes import Scope

_INNER_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

MOST_STEPS = 500  # a run that starts more nodes than Dify allows has lost its way


# Looking up an enum's member is a call into Python, and this is the inner loop of every run.
_READY, _SUCCEEDED, _FAILED = StepStatus.READY, StepStatus.SUCCEEDED, StepStatus.FAILED
_RUNNING, _PAUSED, _EXCEPTION = StepStatus.RUNNING, StepStatus.PAUSED, StepStatus.EXCEPTION
_RUN_STARTED, _STEP_STARTED = Entry(EventKind.RUN_STARTED), Entry(EventKind.STEP_STARTED)
_STEP_FINISHED = EventKind.STEP_FINISHED


class Settled(msgspec.Struct, frozen=True):
    """A worker's inputs with nothing left to chance: a second attempt makes the same picture."""

    inputs: dict[str, Any]
    checkpoint: str | None


Settle = Callable[[WorkerCall], Settled]


class _TooManySteps(Exception):
    pass


class Movement(Record):
    """One run on its way: what is new (entries of its log, work, whom to ring for), and how the run stands.

    A container's step is `running` without a row of its own while its rounds go on, and ends with the last of them.
    Each round is a `Scope` with its own steps and pool.
    """

    posting: RunRequest | None = None
    """The request, when webhooks of its own or of its app may want to hear that the run was accepted."""

    def __init__(
        self, graph: Graph, run: Run, told: Iterable[Event], settle: Settle, library: Library = NOTHING_ELSE
    ) -> None:
        super().__init__(graph, run, told, library)
        self._settle = settle
        self._empty_rounds = 0
        self.new_work: list[NewWork] = []
        self.new_forms: list[NewForm] = []
        self.rings: set[str] = set()
        self.halted: list[Step] = []
        """Workers' steps that nobody waits for any more, though the run goes on."""

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
        # What it has made all the same, such as an answer's status and body, is there for its branch to look into.
        ended["outputs"] = {**(why.outputs or {}), **(ended["outputs"] or {})} or None
        metadata = {**(held.metadata or {}), **(strategy or {})} or None
        at = clock.time()
        return msgspec.structs.replace(held, **ended, process_data=why.process_data, metadata=metadata, finished_at=at)

    def retry_delay_s(self, held: Step) -> float | None:
        """How long to wait before the step is tried again as its document wants it; None: it is not."""
        policy = self._scopes.node(held).retry
        return policy.interval_s if policy and self.retries_of(held) < policy.max_retries else None

    def step_retried(self, step: Step, *, configured: bool = False) -> None:
        """An attempt was lost, or failed and is tried again as the document wants it; the step is ready again."""
        number = step.attempt
        lost = {"retry_index": number, "error": step.error, "error_type": step.error_type, "at": clock.time()}
        if configured:
            lost |= {"retry_index": self.retries_of(step) + 1, "configured": True}
        self._total_steps += not step.scope
        self.new_entries.append(Entry(EventKind.STEP_RETRIED, step, lost))

    def told_by(self, step: Step) -> str | None:
        """What has been told of the text that a running step is at; None while it is not its turn to speak."""
        return self._voice.told_by(step, self._graph, self._top.steps, self._top.pool)

    def form_answered(self, step_id: str, kind: EventKind, outputs: dict[str, Any], handle: str) -> None:
        """A form was filled in, or nobody did in time (`kind` says which): the run leaves its node by the handle."""
        step = next(step for scope in self._scopes for step in scope.open_steps if step.id == step_id)
        if self._run.status is RunStatus.PAUSED:
            self.new_entries.append(Entry(EventKind.RUN_RESUMED))
            self._run = self._moved(status=RunStatus.RUNNING)
        self.new_entries.append(Entry(kind, step, {"outputs": outputs, "form": self._asked.get(step_id)}))
        done = {"status": _SUCCEEDED, "handle": handle, "outputs": outputs, "finished_at": clock.time()}
        self.step_finished(msgspec.structs.replace(step, **done))

    def is_open(self, step_id: str) -> bool:
        """Whether the step goes on: the round that it was in may have ended without it."""
        return any(step.id == step_id for scope in self._scopes for step in scope.open_steps)

    @property
    def has_forms(self) -> bool:
        """True when a form of this run may still be waiting."""
        return bool(self._asked)

    def _go_on(self, scope: Scope, *, refuse: bool = False) -> None:
        """Starts what can be started, in the scope and, as rounds and their containers end, in those around it."""
        try:
            self._pass(scope, refuse=refuse)
            while scope.path and self._close(scope):
                around = self._scopes.around(scope)
                if not self._drive(around, scope.path[-1][0]):
                    break
                scope = around
                self._pass(scope)
        except _TooManySteps:
            said = f"Maximum execution steps exceeded: {MOST_STEPS + 1} > {MOST_STEPS}"
            self.end(RunStatus.FAILED, said, "too_many_steps")
            return
        status = ending(self._graph, self._top.steps)
        if status is None:
            if self._asked:
                self._pause_if_idle()
            return
        failed = self._top.first_failed if status is RunStatus.FAILED else None
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
        handle = outputs = process_data = metadata = work_class = checkpoint = rounds = form = None
        arguments: Mapping[str, Any] = {}
        inputs: Mapping[str, Any] | None = None
        try:
            done = node.work.execute(scope.pool)
            if isinstance(done, Completed):
                handle, inputs, outputs, process_data = done.handle, done.inputs, done.outputs, done.process_data
                metadata = done.metadata
            elif isinstance(done, AskForm):
                status, form, inputs = _PAUSED, done, done.inputs
            elif isinstance(done, WorkerCall):
                settled = self._settle(done)
                status, work_class, inputs = _READY, done.work_class, settled.inputs
                checkpoint, arguments = settled.checkpoint, done.arguments
            else:
                rounds = self._called(scope, done) if isinstance(done, AppCall) else done
                status, inputs = _RUNNING, done.inputs
        except (NodeFailed, InvalidParam) as reason:
            if refuse and isinstance(reason, InvalidParam) and node.strategy is None:
                reason.at_node(node.id, node.title)
                raise
            kind = reason.error_type if isinstance(reason, NodeFailed) else type(reason).__name__
            ended, metadata = _failed(node, reason.message, kind)
            status, handle, outputs = ended["status"], ended["handle"], ended["outputs"]
            error, error_type = reason.message, kind
        self._started += 1
        self._total_steps += scope is self._top  # as in Dify, what is inside containers counts towards the limit alone
        # The first by position: Python puts more than fifteen keywords into a dictionary, and takes them out again.
        step = Step(
            ids.new_id(),
            self._run.id,
            node.id,
            node.kind,
            node.title,
            self._started,
            status,
            predecessor(scope.body, scope.steps, node.id),
            work_class=work_class,
            handle=handle,
            inputs=inputs,
            outputs=outputs,
            process_data=process_data,
            error=error,
            error_type=error_type,
            created_at=begun_at,
            finished_at=clock.time() if status is _SUCCEEDED or error is not None else None,
            scope=scope.path,
            metadata=metadata if scope.marks is None else scope.metadata(metadata),
        )
        if rounds is not None:
            self._open(scope, step, rounds)
        elif form is not None:
            self._ask(scope, step, form)
        elif work_class is None:
            self.new_entries.append(_STEP_STARTED)
            self._settle_step(scope, step)
        else:
            self.new_entries.append(Entry(EventKind.STEP_STARTED, step))
            if scope.called is not None:
                arguments = {**arguments, CALLED_WORKFLOW: scope.called}
            self.new_work.append(NewWork(step, checkpoint, arguments))
            self.rings.add(work_class)
            scope.note(step)

    def _ask(self, scope: Scope, step: Step, asked: AskForm) -> None:
        form = NewForm(ids.new_id(), ids.new_token(), step.id, step.node_id, asked.form, asked.timeout_s)
        self.new_forms.append(form)
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
        self.new_entries += (_STEP_STARTED, Entry(EventKind.FORM_REQUIRED, step, shown))
        scope.note(step)

    def _pause_if_idle(self) -> None:
        """Where nothing goes on but forms that wait for people, the run pauses: it holds no worker, its time stops."""
        open_steps = [step for scope in self._scopes for step in scope.open_steps]
        waiting = [step for step in open_steps if step.status is _PAUSED]
        if not waiting or any(step.work_class is not None for step in open_steps):
            return
        told = {
            "paused_nodes": [step.node_id for step in waiting],
            "reasons": [self._asked[step.id] for step in waiting],
            "at": clock.time(),
        }
        self.new_entries.append(Entry(EventKind.RUN_PAUSED, None, told))
        self._run = self._moved(status=RunStatus.PAUSED)

    def _open(self, scope: Scope, step: Step, rounds: Rounds) -> None:
        self.new_entries += (
            _STEP_STARTED,
            Entry(EventKind.ROUNDS_STARTED, step, {"length": rounds.length, **rounds.pinned}),
        )
        scope.note(step)
        scope.rounds[step.node_id] = rounds
        self._drive(scope, step.node_id)

    def _called(self, scope: Scope, call: AppCall) -> Rounds:
        if scope.calls >= MOST_CALLS:
            raise NodeFailed(f"Max workflow call depth {MOST_CALLS} reached.", error_type="ToolInvokeError")
        callee = self._library.find(call.names)
        if callee is None:
            names = " or ".join(f"'{name}'" for name in call.names)
            said = f"No app of this server is called {names}: publish the workflow under that name to call it."
            raise NodeFailed(said, error_type="ToolProviderNotFoundError")
        return CallRounds(call, callee)

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
        self._settle_step(scope, ended, is_sum=True)

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
