"""A run as its facts have it, and the facts that are new."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from app import clock
from app.domain.event import Entry, Event, EventKind
from app.domain.run import Run, RunStatus, Step, StepStatus, is_terminal
from app.graph.calls import Callee
from app.graph.execute import first_pool, merge_outputs
from app.graph.files import SYSTEM_FILES
from app.graph.graph import Graph
from app.graph.nodes.loop import LoopEnd
from app.runs.scopes import Scope, Scopes
from app.runs.voice import Voice

# Looking up an enum's member is a call into Python, and this is the inner loop of every run.
_EXCEPTION, _STEP_FINISHED, _TEXT_CHUNK = StepStatus.EXCEPTION, EventKind.STEP_FINISHED, EventKind.TEXT_CHUNK
_RUN_FINISHED = Entry(EventKind.RUN_FINISHED)


class Library:
    """The other apps of this server, as a run that calls them finds them."""

    def find(self, names: Sequence[str]) -> Callee | None:
        """The app that has the first of the names that any has, with its current workflow."""
        return None

    def graph_of(self, workflow_id: str) -> Graph:
        """A version that was called before."""
        raise LookupError(workflow_id)


NOTHING_ELSE = Library()


class Record:
    """What has happened in a run, read from its log, and what happens now, to be added to it."""

    def __init__(self, graph: Graph, run: Run, told: Iterable[Event], library: Library) -> None:
        self._run = run
        self._told = run.last_seq
        self._total_steps = run.total_steps
        self._total_tokens = run.total_tokens
        self._exceptions_count = run.exceptions_count
        self.new_entries: list[Entry] = []
        self._graph = graph
        self._voice = Voice()
        self._library = library
        self._started = 0
        self._retries: dict[str, int] = {}
        self._asked: dict[str, Mapping[str, Any]] = {}  # what each step's form shows
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

    def retries_of(self, step: Step) -> int:
        """How often it was tried again because its document wants it so: those attempts were not lost."""
        return self._retries.get(step.id, 0)

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
            self._voice.hear(payload)
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
            self._voice.begin_again(step)
        elif kind is EventKind.ROUNDS_STARTED:
            scope.reopen(step.node_id, payload, self._library.graph_of)
        elif step.node_id in scope.rounds:
            self._scopes.end_container(scope, step.node_id)
        elif kind is EventKind.FORM_REQUIRED:
            self._asked[step.id] = payload
        for selector, value in payload.get("assigned") or ():
            scope.pool.assign(tuple(selector), value)
        scope.pool.assigned.clear()
        scope.note(step)
        if step.kind == LoopEnd.kind and scope.path:
            self._scopes.break_loop(scope.path)

    def _settle_step(self, scope: Scope, step: Step, *, is_sum: bool = False) -> None:
        """A step has ended; what it has assigned is kept with the fact. `is_sum`: its tokens are other steps'."""
        scope.note(step)
        if scope is self._top:
            if step.status is _EXCEPTION:
                self._exceptions_count += 1
            if step.node_id in self._graph.heard:
                self._release_chunks()
        elif step.kind == LoopEnd.kind:
            self._scopes.break_loop(scope.path)
        if step.metadata is not None and not is_sum:
            self._total_tokens += step.metadata.get("total_tokens") or 0
        assigned = scope.pool.assigned
        if assigned:
            self.new_entries.append(Entry(_STEP_FINISHED, step, {"assigned": assigned[:]}))
            assigned.clear()
        else:
            self.new_entries.append(Entry(_STEP_FINISHED, step))

    def _release_chunks(self) -> None:
        self.new_entries += self._voice.release(self._graph, self._top.steps, self._top.pool)

    def _moved(self, **changes: Any) -> Run:
        return msgspec.structs.replace(
            self._run,
            last_seq=self._told + len(self.new_entries),
            total_steps=self._total_steps,
            exceptions_count=self._exceptions_count,
            total_tokens=self._total_tokens,
            **changes,
        )


def system_variables(run: Run) -> dict[str, Any]:
    """What a document reads as `sys.*`."""
    return {
        "files": run.inputs.get(SYSTEM_FILES, []),
        "user_id": run.user,
        "app_id": run.app_id,
        "workflow_id": run.workflow_id,
        "workflow_run_id": run.id,
    }
