"""The transactions of a run's life. Each locks the run, decides, writes, and says whom to tell after the commit.

Whoever makes a fact true calls one of these: the API that accepts, the worker that completes, the reaper that finds
a lease expired. A run has no owner, so nobody's death leaves it behind. Who wins a race: the first to lock the run;
the loser finds a status or an attempt number that has moved on, and writes nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec

from app import clock
from app.artifacts.urls import UrlSigner, open_signer
from app.domain.artifact import Artifact, unforged
from app.domain.event import EventKind
from app.domain.form import Form, FormStatus
from app.domain.request import RunRequest
from app.domain.run import (
    GIVEN_BACK,
    NEIGHBOUR_HUNG,
    SERVER_STOPPED,
    Failed,
    Retry,
    Run,
    RunStatus,
    Step,
    StepStatus,
    Succeeded,
    Task,
    Timings,
    is_terminal,
)
from app.errors import FormExpired, FormSubmitted, NotFound
from app.graph.calls import Callee
from app.graph.graph import Graph
from app.graph.nodes.human_input import TIMEOUT, fill
from app.runs.admission import Admission
from app.runs.movement import Movement, Settle
from app.runs.record import NOTHING_ELSE, Library
from app.runs.voice import part
from app.settings import Settings
from app.store import deliveries, files, forms, runs, steps, webhooks
from app.store.engine import Tx

STOPPED_BY_USER = ("Stopped by user.", "stopped_by_user")
# An attempt that ended with its worker's own shutdown, or because another step hung there, is nobody's failure.
_NOBODYS_FAILURE = (SERVER_STOPPED, NEIGHBOUR_HUNG)


class Notice(msgspec.Struct, frozen=True):
    """Whom to tell once the commit is durable: listeners of the run, doorbells, and workers whose steps have ended.

    `posts`: there may be something to send to webhooks.
    """

    run_id: str
    rings: frozenset[str] = frozenset()
    halts: tuple[str, ...] = ()
    posts: bool = False


class Said(msgspec.Struct, frozen=True):
    """How far a step's text was told when its run's log ended with fact `seq`; `told` is None before its turn."""

    seq: int
    told: str | None


def _no_app(tx: Tx, names: Sequence[str]) -> Callee | None:
    return None


class _Shelf(Library):
    """The other apps as a transaction sees them."""

    def __init__(
        self,
        tx: Tx,
        graph_of: Callable[[Tx, str], Graph],
        find_app: Callable[[Tx, Sequence[str]], Callee | None],
    ) -> None:
        self._tx, self._graph_of, self._find_app = tx, graph_of, find_app

    def find(self, names: Sequence[str]) -> Callee | None:
        return self._find_app(self._tx, names)

    def graph_of(self, workflow_id: str) -> Graph:
        return self._graph_of(self._tx, workflow_id)


class Advance:
    """The verbs that move runs on. Holds no state but what it was wired with."""

    def __init__(
        self,
        graph_of: Callable[[Tx, str], Graph],
        settle: Settle,
        settings: Settings,
        find_app: Callable[[Tx, Sequence[str]], Callee | None] = _no_app,
    ) -> None:
        self._graph_of = graph_of
        self._find_app = find_app
        self._settle = settle
        self._settings = settings
        self._admission = Admission(settings)

    @cached_property
    def _signer(self) -> UrlSigner:
        return open_signer(self._settings)  # most runs make no files

    def begin(self, graph: Graph, run: Run, library: Library = NOTHING_ELSE) -> Movement:
        """A new run as far as it gets without a worker, in memory. Raises InvalidParam: then there is no run."""
        movement = Movement(graph, run, (), self._settle, library)
        movement.begin()
        return movement

    def insert(self, tx: Tx, task: Task, movement: Movement, asked: RunRequest | None = None) -> Notice:
        """Accepts a run: its task, itself, its steps and its events, all or nothing; and what webhooks are told.

        Raises TooManyRequests before anything is written, when the run needs a worker and `asked` is one too many.
        """
        run = movement.run
        if tx.again and runs.find_run(tx, run.id) is not None:
            return Notice(run.id, frozenset(movement.rings))  # it was committed, only the answer got lost
        if asked is not None and movement.new_work and not is_terminal(run.status):
            self._admission.admit(tx, asked.caller, movement.new_work[0].step.work_class or "cpu")
        deadline_s = asked.deadline_s if asked is not None else None
        runs.insert_run(tx, task, run, movement.new_entries, self._settings.run_timeout_s, deadline_s)
        if run.status is RunStatus.PAUSED:
            runs.mark_paused(tx, run.id)
        notice = self._write_work(tx, run, movement)
        posting = movement.posting
        if posting is None:
            return notice
        if posting.webhook is not None:
            webhooks.insert_run_webhook(tx, run.id, posting.webhook)
        deliveries.tell(tx, run, started=True)
        return msgspec.structs.replace(notice, posts=True)

    def complete(
        self,
        tx: Tx,
        held: Step,
        outcome: Succeeded | Failed | Retry,
        made: Sequence[Artifact] = (),
        timings: Timings | None = None,
    ) -> Notice | None:
        """Records how an attempt ended and moves the run on. None: it had lost its step, nothing is written."""
        run = runs.lock_run(tx, held.run_id)
        if run is None or is_terminal(run.status):
            return None
        if isinstance(outcome, Retry):
            return self.give_back(tx, held, outcome)
        if isinstance(outcome, Failed):
            return self._fail(tx, run, held, outcome, timings)
        outputs = unforged(outcome.outputs, {each.id for each in made})
        if made:
            outputs = self._signer.stamped(outputs)
        outcome = msgspec.structs.replace(outcome, outputs=outputs)
        done = _succeeded(held, outcome)
        if not steps.finish(tx, done, timings):
            return None
        files.insert_artifacts(tx, made, clock.time())
        movement = self._movement(tx, run)
        movement.step_finished(done)
        return self._write(tx, movement)

    def give_back(self, tx: Tx, held: Step, why: Retry) -> Notice | None:
        """Lets another worker try a step whose attempt was lost; after the last try the step fails, and its run."""
        run = runs.lock_run(tx, held.run_id)
        if run is None or is_terminal(run.status):
            return None
        if held.attempt >= self._settings.max_attempts and why.error_type not in _NOBODYS_FAILURE:
            movement = self._movement(tx, run)
            if held.attempt - movement.retries_of(held) >= self._settings.max_attempts:
                lost = Failed(f"{why.error} ({held.attempt} attempts)", why.error_type)
                return self._end_step(tx, movement, movement.failed_step(held, lost))
        if not steps.give_back(tx, held, self._delay_s(held.attempt, why), why.error, why.error_type):
            return None
        movement = self._movement(tx, run)
        movement.step_retried(msgspec.structs.replace(held, error=why.error, error_type=why.error_type))
        return self._write_retry(tx, movement, held)

    def _fail(self, tx: Tx, run: Run, held: Step, why: Failed, timings: Timings | None) -> Notice | None:
        """A failed attempt is tried again if the document wants it so; else its node's error strategy has its turn."""
        movement = self._movement(tx, run)
        delay_s = movement.retry_delay_s(held)
        if delay_s is None:
            return self._end_step(tx, movement, movement.failed_step(held, why), timings)
        if not steps.give_back(tx, held, delay_s, why.error, why.error_type):
            return None
        failed = msgspec.structs.replace(held, error=why.error, error_type=why.error_type)
        movement.step_retried(failed, configured=True)
        return self._write_retry(tx, movement, held)

    def _end_step(self, tx: Tx, movement: Movement, done: Step, timings: Timings | None = None) -> Notice | None:
        if not steps.finish(tx, done, timings):
            return None
        movement.step_finished(done)
        return self._write(tx, movement)

    def _write_retry(self, tx: Tx, movement: Movement, held: Step) -> Notice:
        return msgspec.structs.replace(self._write(tx, movement), rings=frozenset({held.work_class or "cpu"}))

    def say(self, tx: Tx, held: Step, text: str, before: Said | None) -> tuple[Said, Notice | None] | None:
        """Tells what is new in the text so far of a step that is still at it, if it is its turn to speak.

        `before` is what the last call gave: it spares the next one the run's log while nothing else has happened. None:
        the attempt has lost its step, nothing is written. A text that does not go on where the told one ends is told
        with its end, by `complete`.
        """
        run = runs.lock_run(tx, held.run_id)
        if run is None or is_terminal(run.status) or not steps.is_held(tx, held):
            return None
        told = self._movement(tx, run).told_by(held) if before is None or before.seq != run.last_seq else before.told
        if told is None or len(text) <= len(told) or not text.startswith(told):
            return Said(run.last_seq, told), None
        entry = part(held, text[len(told) :])
        run = msgspec.structs.replace(run, last_seq=run.last_seq + 1)
        runs.save_run(tx, run)
        runs.insert_entries(tx, run, [entry])
        return Said(run.last_seq, text), Notice(run.id)

    def fill_form(self, tx: Tx, token: str, given: Mapping[str, Any], action: str, user: str) -> Notice:
        """A person has filled in a form; the run goes on. Of two who do, the first to lock the run is heard.

        Raises NotFound, InvalidFormData, FormSubmitted, FormExpired; then nothing is written.
        """
        form = forms.find_form(tx, token)
        if form is None:
            raise NotFound("Form not found")
        run = runs.lock_run(tx, form.run_id)
        form = forms.find_form(tx, token) or form  # as it is now that nobody else can change it
        check_waits(form)
        outputs = fill(form.definition, given, action)
        if run is None or is_terminal(run.status) or not forms.mark_submitted(tx, form, outputs, user):
            raise FormExpired(f"This form has expired, form_id={form.id}")
        notice = self._answer_form(tx, run, form, EventKind.FORM_FILLED, outputs, action)
        if notice is None:
            raise FormExpired(f"This form has expired, form_id={form.id}")
        return notice

    def expire_form(self, tx: Tx, expired: Form) -> Notice | None:
        """Nobody has filled in the form in time: the run goes on by the timeout's branch. None: somebody did."""
        run = runs.lock_run(tx, expired.run_id)
        if not forms.mark_expired(tx, expired) or run is None or is_terminal(run.status):
            return None
        return self._answer_form(tx, run, expired, EventKind.FORM_EXPIRED, {}, TIMEOUT)

    def _answer_form(
        self, tx: Tx, run: Run, form: Form, kind: EventKind, outputs: dict[str, Any], handle: str
    ) -> Notice | None:
        """None: its step was in a round that has ended without it."""
        movement = self._movement(tx, run)
        if not movement.is_open(form.step_id):
            return None
        if run.status is RunStatus.PAUSED:
            runs.mark_resumed(tx, run.id)
        movement.form_answered(form.step_id, kind, outputs, handle)
        return self._write(tx, movement)

    def end_run(self, tx: Tx, run_id: str, status: RunStatus, error: str, code: str | None = None) -> Notice | None:
        """Ends a run from outside: a stop, a deadline. None when it has ended already or does not exist."""
        run = runs.lock_run(tx, run_id)
        if run is None or is_terminal(run.status):
            return None
        movement = self._movement(tx, run)
        movement.end(status, error, code)
        return self._write(tx, movement)

    def _movement(self, tx: Tx, run: Run) -> Movement:
        told = runs.events_after(tx, run.id, 0)
        library = _Shelf(tx, self._graph_of, self._find_app)
        return Movement(self._graph_of(tx, run.workflow_id), run, told, self._settle, library)

    def _write(self, tx: Tx, movement: Movement) -> Notice:
        run = movement.run
        runs.save_run(tx, run)
        if run.status is RunStatus.PAUSED:
            runs.mark_paused(tx, run.id)
        runs.insert_entries(tx, run, movement.new_entries)
        notice = self._write_work(tx, run, movement)
        if not is_terminal(run.status):
            return notice
        deliveries.tell(tx, run)
        if movement.has_forms:
            forms.close_forms(tx, run.id)
        # Whatever ended it, a stop or a failed node: what its steps were doing has no use any more.
        return Notice(run.id, halts=tuple(steps.stop_open(tx, run.id, clock.time())), posts=True)

    def _write_work(self, tx: Tx, run: Run, movement: Movement) -> Notice:
        if is_terminal(run.status):
            # It may have ended beside a step that was to wait for a worker: nobody is to begin that.
            return Notice(run.id)
        steps.insert_steps(tx, run, movement.new_work)
        forms.insert_forms(tx, run, movement.new_forms)
        halts = tuple(steps.stop(tx, step, clock.time()) for step in movement.halted)
        return Notice(run.id, frozenset(movement.rings), halts)

    def _delay_s(self, attempt: int, why: Retry) -> float:
        """Exponential, with jitter: half of it is chance, so that a crowd does not come back as one.

        None at first for a worker that is gone: nothing says that the step had anything to do with it.
        """
        if attempt == 1 and why.error_type in GIVEN_BACK:
            return 0.0
        full_s: float = self._settings.retry_delay_s * 2 ** (attempt - 1)
        return full_s * (0.5 + random.random() / 2)


def check_waits(form: Form) -> None:
    """Raises FormSubmitted or FormExpired for a form that waits no more."""
    if form.status is FormStatus.SUBMITTED:
        raise FormSubmitted(f"This form has already been submitted by another user, form_id={form.id}")
    if form.status is FormStatus.EXPIRED:
        raise FormExpired(f"This form has expired, form_id={form.id}")


def _succeeded(held: Step, outcome: Succeeded) -> Step:
    return msgspec.structs.replace(
        held,
        status=StepStatus.SUCCEEDED,
        handle=outcome.handle,
        outputs=outcome.outputs,
        process_data=outcome.process_data,
        metadata={**(held.metadata or {}), **(outcome.metadata or {})} or None,
        error=None,
        error_type=None,
        finished_at=clock.time(),
    )
