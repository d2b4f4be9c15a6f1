"""What callers can do with runs: one public method a verb, the same for every dialect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from app import clock, ids
from app.domain.detail import Detail, Part
from app.domain.event import QueuePosition, Tick
from app.domain.request import Caller, RunRequest
from app.domain.run import Run, RunStatus, Task, is_terminal
from app.errors import InvalidParam, NotFound
from app.events.feed import Feed, Silence
from app.events.topic import Fact
from app.events.wakeups import Wake
from app.graph.inputs import read_inputs, takes_files
from app.logs import subject
from app.queue.doorbell import Doorbell
from app.runs.advance import STOPPED_BY_USER, Advance, Notice
from app.runs.calls import Calls, Replayed
from app.runs.given import GivenFiles
from app.runs.publications import Publication, Publications
from app.runs.record import NOTHING_ELSE
from app.store import details, lists
from app.store import runs as run_rows
from app.store.lists import Filters, Listed, LogQuery
from app.store.store import Store
from app.tally import Tally


class Wakeups(Protocol):
    """Who wakes the readers of a run: here at once, or through another process."""

    def publish_threadsafe(self, note: Wake | Tick) -> None: ...


class Announcer:
    """Tells what a commit made true: wakes the run's readers, rings for new work, halts work that has no use."""

    def __init__(self, doorbell: Doorbell, wakeups: Wakeups, tally: Tally | None = None) -> None:
        self._doorbell = doorbell
        self._wakeups = wakeups
        self.tally = tally or Tally()
        self.post: Callable[[], None] = _nobody_posts
        """Called, from any thread, when there may be something to send to webhooks; the sender sets it."""

    def tell(self, notice: Notice | None) -> None:
        """After the commit, from any thread. None: nothing was written, so there is nothing to tell."""
        if notice is None:
            return
        self._wakeups.publish_threadsafe(Wake(notice.run_id))
        self.ring(notice.rings)
        if notice.halts:
            self.halt(notice.halts)
        if notice.posts:
            self.post()

    def ring(self, work_classes: Iterable[str]) -> None:
        for work_class in work_classes:
            self._doorbell.ring(work_class)

    def ring_all(self, work_class: str) -> None:
        self._doorbell.ring_all(work_class)

    def halt(self, step_ids: tuple[str, ...]) -> None:
        self._doorbell.halt(step_ids)

    def publish(self, note: Wake | Tick) -> None:
        """Passes on what another process told."""
        self._wakeups.publish_threadsafe(note)
        if isinstance(note, Wake):
            self.post()


def _nobody_posts() -> None:
    """For a process that sends no webhooks: the one that does looks for itself, too."""


class Accepted(msgspec.Struct, frozen=True):
    """A durable run. `replayed`: the same request made it before. `waits_for`: the class of work of its first step."""

    run: Run
    replayed: bool = False
    waits_for: str | None = None


class RunService:
    """Accepts runs and lets callers see and stop them. It keeps nothing in memory that a run depends on."""

    def __init__(
        self,
        store: Store,
        advance: Advance,
        publications: Publications,
        feed: Feed,
        announcer: Announcer,
        calls: Calls,
    ) -> None:
        self._store = store
        self._advance = advance
        self._calls = calls
        self._publications = publications
        self._feed = feed
        self._announcer = announcer
        self.given: GivenFiles | None = None
        """Finds the files that requests name; without it there are none."""

    async def publication(self, caller: Caller) -> Publication:
        """The workflow that the caller's key runs."""
        return await self._publications.current(caller)

    async def submit(self, request: RunRequest) -> Accepted:
        """Accepts a run; once this returns it is durable. Nodes that need no worker have run already.

        A request that has made a run before gets that one. Raises InvalidParam for inputs that the workflow or its
        tools refuse, NotFound for a version that the app doesn't have, IdempotencyConflict, and TooManyRequests when a
        limit is reached: then there is no run.
        """
        if request.idempotency_key is not None and (known := await self._calls.replayed(request)):
            return await self._replay(request, known)
        publication = await self._publications.asked_for(request)
        inputs = read_inputs(publication.graph, request.inputs)
        if request.files or takes_files(publication.graph):
            if self.given is None:
                raise InvalidParam("This server takes no files.", params="files")
            inputs = await self.given.place(request, publication.graph, inputs)
        asked = subject()
        task = _new_task(request, publication, asked.traceparent)
        run = _new_run(task, publication, inputs)
        library = await self._publications.library(publication.graph) if publication.graph.calls else NOTHING_ELSE
        movement = self._advance.begin(publication.graph, run, library)
        asked.run = run.id
        if movement.new_work:
            task = msgspec.structs.replace(task, traceparent=asked.trace_to_pass_on())
        if request.webhook is not None or request.caller.app_webhooks:
            movement.posting = request  # most runs have nobody to tell, and pay nothing for those that have
        done = await self._calls.accept(request, task, movement)
        if isinstance(done, Replayed):
            return await self._replay(request, done)
        self._announcer.ring(done.rings)  # nobody can be listening to it yet
        if done.posts:
            self._announcer.post()
        self._announcer.tally.count("accepted", request.dialect, str(movement.run.status))
        waits_for = movement.new_work[0].step.work_class if movement.new_work else None
        return Accepted(movement.run, waits_for=waits_for)

    async def _replay(self, request: RunRequest, made: Replayed) -> Accepted:
        self._announcer.tally.count("replayed", request.dialect)
        return Accepted(await self.get(request.caller, made.run_id), replayed=True)

    async def wait(self, run: Run) -> Run:
        """The run once it has ended or waits for a person, however long that takes."""
        return run if run.status is not RunStatus.RUNNING else await self._feed.wait(run.id, run.last_seq)

    def call_ended(self, run: Run, *, answered: bool) -> None:
        """A blocking call for this run has got its answer, or its connection broke before."""
        self._calls.ended(run.id, answered=answered)

    def follow(
        self, run_id: str, silence_s: float, after: int = 0, *, through_pauses: bool = False
    ) -> AsyncIterator[Fact | Tick | QueuePosition | Silence]:
        """The run's events with a number above `after` to the one that ends it, and its progress between them."""
        return self._feed.follow(run_id, silence_s, after, through_pauses=through_pauses)

    async def get(self, caller: Caller, run_id: str) -> Run:
        """Raises NotFound, also for a run of another app."""
        run = await self._store.read(lambda tx: run_rows.find_run(tx, run_id))
        if run is None or run.app_id != caller.app_id:
            raise NotFound("Workflow run not found.")
        subject().run = run.id
        return run

    async def pause(self, run: Run) -> Mapping[str, Any]:
        """What a run that is paused waits for: the payload of its last fact."""
        last = await self._store.read(lambda tx: run_rows.events_after(tx, run.id, run.last_seq - 1))
        return (last[0].payload or {}) if last else {}

    async def get_of_user(self, caller: Caller, run_id: str, user: str) -> Run:
        """The same for one of the caller's users; raises NotFound also for another user's run."""
        run = await self.get(caller, run_id)
        if run.user != user:
            raise NotFound("Workflow run not found.")
        return run

    async def page(self, caller: Caller, filters: Filters, limit: int) -> Sequence[Listed]:
        """At most so many runs of the caller's app, the newest first."""
        return await self._store.read(lambda tx: lists.run_page(tx, caller.app_id, filters, limit))

    async def detail(
        self, caller: Caller, run_id: str, parts: Collection[Part], *, has_few_steps: bool = False
    ) -> Detail:
        """The run with everything that is asked for, all of one moment. Raises NotFound, also for another app's.

        `has_few_steps`: as runs of the documents that ship have; they are told sooner.
        """
        ask = self._store.find if has_few_steps else self._store.read
        detail = await ask(lambda tx: details.find_detail(tx, caller.app_id, run_id, parts), of_one_moment=True)
        if detail is None:
            raise NotFound("Workflow run not found.")
        subject().run = detail.run.id
        return detail

    async def stop(self, caller: Caller, task_or_run_id: str) -> Run:
        """Stops the run of a task at once; an ended run keeps its end. Raises NotFound.

        The run is `stopped` with this commit. The worker hears of it within a denoising step; what it still
        finishes is refused.
        """
        run = await self._store.read(
            lambda tx: run_rows.find_run_of_task(tx, task_or_run_id) or run_rows.find_run(tx, task_or_run_id)
        )
        if run is None or run.app_id != caller.app_id:
            raise NotFound("Task not found.")
        subject().run = run.id
        if not is_terminal(run.status):
            notice = await self._store.commit(
                lambda tx: self._advance.end_run(tx, run.id, RunStatus.STOPPED, *STOPPED_BY_USER)
            )
            self._announcer.tell(notice)
        return await self.get(caller, run.id)

    async def logs(self, caller: Caller, query: LogQuery) -> tuple[int, Sequence[Listed]]:
        """(how many runs of the caller's app match, those of the page)."""
        return await self._store.read(lambda tx: lists.log_page(tx, caller.app_id, query))


def _new_task(request: RunRequest, publication: Publication, traceparent: str | None) -> Task:
    return Task(
        id=ids.new_id(),
        run_id=ids.new_id(),
        app_id=publication.app_id,
        key_id=request.caller.key_id,
        user=request.user,
        dialect=request.dialect,
        response_mode=request.response_mode,
        created_at=clock.time(),
        traceparent=traceparent,
        priority=request.granted_priority,
    )


def _new_run(task: Task, publication: Publication, inputs: dict[str, Any]) -> Run:
    """The run of a task, before anything of it has happened."""
    return Run(
        id=task.run_id,
        task_id=task.id,
        app_id=task.app_id,
        workflow_id=publication.workflow_id,
        user=task.user,
        status=RunStatus.RUNNING,
        inputs=inputs,
        outputs={},
        error=None,
        total_steps=0,
        exceptions_count=0,
        last_seq=0,
        created_at=task.created_at,
        key_id=task.key_id,
    )
