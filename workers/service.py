"""`atelier worker`: one worker beside a Celery consumer. Celery brings the doorbell's messages, and nothing else.

Celery's own pool holds no work: its one thread rings the child and waits until the child has found no more, so a busy
worker takes no second message and another one gets it. The child, its leases, its end and its replacement are the lease
keeper's, the same as in the embedded form.
"""

from __future__ import annotations

import logging

import msgspec
from celery.signals import worker_shutting_down

from app.checkpoints.catalogue import open_catalogue
from app.errors import SettingsInvalid
from app.events.line import open_line
from app.logs import set_up_logs
from app.queue.celery_doorbell import DRAIN, make_celery
from app.queue.notes import HALTS, NoteListener
from app.runs.advance import Advance
from app.runs.publications import Publications
from app.runs.service import Announcer
from app.runs.settle import SettleImages
from app.settings import Settings
from app.store.migrate import require_current
from app.store.store import Store
from workers.lease import LeaseKeeper

logger = logging.getLogger(__name__)


def serve(settings: Settings, work_classes: tuple[str, ...]) -> None:
    """Works until SIGTERM or Ctrl-C; then finishes its step within the grace, or gives it back."""
    if settings.is_embedded or not settings.redis_url:
        raise SettingsInvalid("A worker of its own needs DATABASE_URL (PostgreSQL) and REDIS_URL.")
    set_up_logs("worker", settings.log_level, settings.log_format)
    require_current(settings)
    line = open_line(settings)
    store = Store(settings)
    catalogue = open_catalogue(settings.checkpoints_dir, settings.default_checkpoint)
    advance = Advance(Publications(store).graph_of, SettleImages(catalogue), settings)
    keeper = LeaseKeeper(settings, work_classes)
    keeper.start(store, advance, Announcer(line.doorbell, line.wakeups), line.child_bell)
    halts = NoteListener(settings.redis_url, {HALTS: lambda note: line.child_bell.halt(_step_ids(note))})
    halts.start()
    try:
        _consume(settings.redis_url, work_classes, keeper)
    finally:
        keeper.leave()
        halts.close()
        line.close()
        store.close()


def _consume(redis_url: str, work_classes: tuple[str, ...], keeper: LeaseKeeper) -> None:
    celery = make_celery(redis_url)

    celery.task(keeper.drain, name=DRAIN)

    def leave(**_: object) -> None:
        keeper.stop_draining()

    worker_shutting_down.connect(leave, weak=False)
    worker = celery.Worker(
        pool="threads",
        concurrency=1,
        queues=list(work_classes),
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
        loglevel="WARNING",
    )
    worker.start()


def _step_ids(note: bytes) -> tuple[str, ...]:
    return msgspec.json.decode(note, type=tuple[str, ...])
