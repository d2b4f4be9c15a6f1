"""The executor of one attempt: inputs → node → artifacts → outcome."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import msgspec

from app import clock
from app.domain.artifact import Artifact
from app.domain.event import Tick
from app.domain.run import CALLED_WORKFLOW, Failed, Outcome, Retry, Step, Stopped, Succeeded, Timings
from app.errors import AtelierError, NodeFailed, Unavailable
from app.graph.graph import Graph
from app.graph.nodes.kind import NodeKind
from app.logs import Subject, about, done
from app.runs.advance import Advance
from app.runs.publications import Publications
from app.runs.service import Announcer
from app.store import steps
from app.store.engine import Tx
from app.store.store import Store
from workers.link import Counted, WorkerSide
from workers.speech import Speech

logger = logging.getLogger(__name__)

_COMMIT_TRIES = 30


class StepHalted(Exception):
    """The step was ended from outside while a node worked on it."""


class NodeRun(msgspec.Struct, frozen=True):
    """What a node made."""

    succeeded: Succeeded
    artifacts: tuple[Artifact, ...] = ()


class Stopwatch:
    """Where the time of one attempt goes. What a node does not call loading or uploading is its own work."""

    def __init__(self) -> None:
        self._began_s = clock.monotonic()
        self.load_s = 0.0
        self._upload_s = 0.0

    @contextmanager
    def uploading(self) -> Iterator[None]:
        began_s = clock.monotonic()
        try:
            yield
        finally:
            self._upload_s += clock.monotonic() - began_s

    def read(self) -> Timings:
        """The attempt so far."""
        run_s = clock.monotonic() - self._began_s - self.load_s - self._upload_s
        return Timings(round(self.load_s, 6), round(max(0.0, run_s), 6), round(self._upload_s, 6))


class Job(msgspec.Struct, frozen=True):
    """One attempt, as the node that does it sees it.

    `work` is the node's configuration in the run's version of the workflow; `arguments` are what its step keeps for the
    worker alone. `tick` tells progress, `say` the text so far of a node that speaks while it works; `alive` that it
    waits for somebody else, which is no stall.
    """

    step: Step
    work: NodeKind
    arguments: Mapping[str, Any]
    app_id: str
    user: str
    tick: Callable[[Tick], None]
    is_halted: Callable[[], bool]
    watch: Stopwatch
    say: Callable[[str], None]
    alive: Callable[[], None]

    @property
    def inputs(self) -> Mapping[str, Any]:
        return self.step.inputs or {}


class WorkerNode(Protocol):
    """A kind of node that needs a worker."""

    def run(self, job: Job) -> NodeRun:
        """Does the step's work. Raises AtelierError for a failure, StepHalted once `is_halted` says so."""
        ...


class StepRunner:
    """Runs claimed steps. Each attempt ends in exactly one outcome; one that lost its step writes nothing."""

    def __init__(
        self,
        store: Store,
        publications: Publications,
        advance: Advance,
        announcer: Announcer,
        link: WorkerSide,
        nodes: dict[str, WorkerNode],
    ) -> None:
        self._store = store
        self._publications = publications
        self._advance = advance
        self._announcer = announcer
        self._link = link
        self._nodes = nodes

    def run(self, step: Step) -> None:
        began_s = clock.monotonic()
        subject = Subject(run=step.run_id, step=step.id, attempt=step.attempt)
        token = about(subject)
        try:
            watch = Stopwatch()
            outcome, made = self._attempt(step, subject, watch)
            if not isinstance(outcome, Stopped):
                self._record(step, outcome, made, watch.read())
            how = {"kind": step.kind, "outcome": type(outcome).__name__.lower()}
            took_s = round(clock.monotonic() - began_s, 3)
            logger.info("attempt ended", extra={"action": "attempt_ended", **how, "seconds": took_s})
        finally:
            done(token)

    def _attempt(self, step: Step, subject: Subject, watch: Stopwatch) -> tuple[Outcome, Sequence[Artifact]]:
        try:
            node = self._nodes.get(step.kind)
            if node is None:
                raise NodeFailed(f"This worker can't run nodes of the kind '{step.kind}'.")
            done = node.run(self._store.read_blocking(lambda tx: self._job(tx, step, subject, watch)))
        except StepHalted:
            return Stopped(), ()
        except AtelierError as error:
            kind = error.error_type if isinstance(error, NodeFailed) else type(error).__name__
            if error.retryable:
                return Retry(error.message, kind), ()
            shown = (error.outputs, error.process_data) if isinstance(error, NodeFailed) else (None, None)
            return Failed(error.message, kind, *shown), ()
        except Exception as error:
            logger.exception("node failed", extra={"action": "node_failed"})
            return Failed(f"The node failed unexpectedly ({type(error).__name__}); the log has more.", "internal"), ()
        return done.succeeded, done.artifacts

    def _job(self, tx: Tx, step: Step, subject: Subject, watch: Stopwatch) -> Job:
        assigned = steps.find_assignment(tx, step)
        if assigned is None:
            raise StepHalted
        subject.traceparent = assigned.traceparent
        arguments = dict(assigned.arguments)
        graph = self._publications.graph_of(tx, arguments.pop(CALLED_WORKFLOW, assigned.workflow_id))
        return Job(
            step=step,
            work=graph.node(step.node_id).work,
            arguments=arguments,
            app_id=assigned.app_id,
            user=assigned.user,
            tick=self._link.progress,
            is_halted=lambda: self._link.is_halted(step),
            watch=watch,
            say=self._voice(step, graph),
            alive=lambda: self._link.alive(step),
        )

    def _voice(self, step: Step, graph: Graph) -> Callable[[str], None]:
        """Where a node's text goes while it works: to the run's log, if an end of the run gives it."""
        if step.scope or step.node_id not in graph.heard:
            return _unheard
        return Speech(self._store, self._advance, self._announcer, step).say

    def _record(
        self, step: Step, outcome: Succeeded | Failed | Retry, made: Sequence[Artifact], timings: Timings
    ) -> None:
        """Writes the outcome; while the store can't be written, again and again until the lease is somebody else's."""
        for attempt in range(_COMMIT_TRIES):
            try:
                notice = self._store.commit_blocking(
                    lambda tx: self._advance.complete(tx, step, outcome, made, timings)
                )
            except Unavailable as error:
                logger.warning("outcome not stored", extra={"action": "commit_failed", "error": error.message})
                if self._link.is_halted(step):
                    return
                time.sleep(min(0.1 * 2**attempt, 2.0))
                continue
            if notice is None:
                logger.warning("outcome refused: the step was lost", extra={"action": "fenced"})
                self._link.tell(Counted("refused"))
            elif isinstance(outcome, Retry) and notice.rings:
                self._link.tell(Counted("given_back", outcome.error_type))
            self._announcer.tell(notice)
            return


def _unheard(text: str) -> None:
    """For a text that nobody waits for."""
