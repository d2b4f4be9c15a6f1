"""`atelier worker`: one worker beside a Celery consumer. Celery brings the doorbell's messages, and nothing else.

Celery's own pool holds no work: it has a thread for each class of work, which rings the child of that class and waits
until it has room and has found no more, so a busy worker takes no second message and another one gets it. The children,
their leases, their end and their replacement are the crew's, the same as in the embedded form.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import Any

import msgspec
from celery.signals import worker_ready, worker_shutting_down

from app.checkpoints.catalogue import open_catalogue
from app.counted import serve_counted
from app.errors import SettingsInvalid
from app.events.line import open_line
from app.logs import set_up_logs
from app.queue.celery_doorbell import DRAIN, make_celery
from app.queue.notes import HALTS, RINGS, NoteListener
from app.runs.advance import Advance
from app.runs.publications import Publications
from app.runs.service import Announcer
from app.runs.settle import SettleImages
from app.settings import Settings
from app.store.migrate import require_current
from app.store.store import Store
from app.tally import Tally
from workers.crew import Crew

logger = logging.getLogger(__name__)


def serve(settings: Settings, work_classes: tuple[str, ...]) -> None:
    """Works until SIGTERM or Ctrl-C; then finishes its step within the grace, or gives it back."""
    if settings.is_embedded or not settings.redis_url:
        raise SettingsInvalid("A worker of its own needs DATABASE_URL (PostgreSQL) and REDIS_URL.")
    set_up_logs("worker", settings.log_level, settings.log_format)
    require_current(settings)
    line = open_line(settings)
    store = Store(settings)
    catalogue = open_catalogue(settings)
    publications = Publications(store)
    settle = SettleImages(catalogue, settings.checkpoint_names)
    advance = Advance(publications.graph_of, settle, settings, publications.find_app)
    tally = Tally()
    if settings.worker_metrics_port:
        serve_counted(tally, store, settings.host, settings.worker_metrics_port)
    crew = Crew(settings, work_classes, is_rung=True)
    crew.start(store, advance, Announcer(line.doorbell, line.wakeups, tally), line.child_bell)
    bell = line.child_bell
    notes = {HALTS: lambda note: bell.halt(_step_ids(note)), RINGS: lambda note: bell.ring(note.decode())}
    listener = NoteListener(settings.redis_url, notes)
    listener.start()
    try:
        _consume(settings.redis_url, work_classes, crew)
    finally:
        crew.leave()
        listener.close()
        line.close()
        store.close()


def _consume(redis_url: str, work_classes: tuple[str, ...], crew: Crew) -> None:
    celery = make_celery(redis_url)
    nudge = _Nudge()

    @celery.task(name=DRAIN, bind=True)  # type: ignore[untyped-decorator]
    def drain(self: Any) -> None:
        try:
            crew.drain(self.request.delivery_info["routing_key"])  # a class of work has a queue of its own
        finally:
            nudge()

    def listen(sender: Any, **_: object) -> None:
        nudge.wakes(sender.hub)

    def leave(**_: object) -> None:
        crew.stop_draining()

    worker_ready.connect(listen, weak=False)
    worker_shutting_down.connect(leave, weak=False)
    worker = celery.Worker(
        pool="threads",
        concurrency=len(work_classes),
        queues=list(work_classes),
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
        loglevel="WARNING",
    )
    worker.start()


class _Nudge:
    """Wakes Celery's event loop when a task is done.

    A worker that takes no message in advance asks for the next one at the next turn of its loop, and an idle loop turns
    but once a second: without this, a hint would wait for half a second.
    """

    def __init__(self) -> None:
        self._hear, self._say = os.pipe()
        os.set_blocking(self._hear, False)
        os.set_blocking(self._say, False)

    def __call__(self) -> None:
        with suppress(BlockingIOError):  # so many nudges are on their way already
            os.write(self._say, b".")

    def wakes(self, hub: Any) -> None:
        def heard() -> None:
            with suppress(BlockingIOError):
                os.read(self._hear, 1024)
            # The task is not off Celery's books yet: look again in a moment.
            hub.call_later(0.002, _nothing)
            hub.call_later(0.02, _nothing)

        hub.add_reader(self._hear, heard)


def _nothing() -> None:
    """A turn of the loop is all that is wanted."""


def _step_ids(note: bytes) -> tuple[str, ...]:
    return msgspec.json.decode(note, type=tuple[str, ...])
