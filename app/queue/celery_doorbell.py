"""The doorbell of the production form: a Celery message without payload for each class of work.

A message reaches one worker; what is meant for all of them is a note."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from queue import Full, Queue

import msgspec
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from app import clock
from app.queue.notes import HALTS, RINGS, NoteSender, open_redis

logger = logging.getLogger(__name__)

DRAIN = "atelier.drain"

_MOST_IN_LINE = 1000  # messages of one class in Redis; more say nothing more
_PAUSE_S = 0.5


def make_celery(redis_url: str) -> Celery:
    """Celery as a doorbell and no more: no results, no remote control, acknowledged early, never hanging for long."""
    celery = Celery("atelier", broker=redis_url, set_as_current=False)
    celery.conf.update(
        task_ignore_result=True,
        task_acks_late=False,
        task_track_started=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "socket_timeout": 5,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "visibility_timeout": 86_400,
            "health_check_interval": 10,
        },
    )
    return celery


class CeleryDoorbell:
    """Rings through Celery, halts through a note; on a thread of its own, because Redis may hang.

    The store's `ready` rows are the outbox: a ring that is lost here is rung again by the reaper.
    """

    def __init__(self, redis_url: str, notes: NoteSender) -> None:
        self._celery = make_celery(redis_url)
        self._celery.conf.broker_transport_options = {"socket_timeout": 1, "socket_connect_timeout": 1}
        self._redis = open_redis(redis_url)
        self._notes = notes
        self._rings: Queue[str | None] = Queue(maxsize=256)
        self._thread = threading.Thread(target=self._deliver, name="doorbell", daemon=True)
        self._thread.start()

    def ring(self, work_class: str) -> None:
        with suppress(Full):  # as many hints as that are on their way already
            self._rings.put_nowait(work_class)

    def ring_all(self, work_class: str) -> None:
        self._notes.send(RINGS, work_class.encode())

    def halt(self, step_ids: tuple[str, ...]) -> None:
        self._notes.send(HALTS, msgspec.json.encode(step_ids))

    def close(self) -> None:
        try:
            self._rings.put_nowait(None)
        except Full:
            return
        self._thread.join(1.0)

    def _deliver(self) -> None:
        rest_until_s = 0.0
        while (work_class := self._rings.get()) is not None:
            if clock.monotonic() < rest_until_s:
                continue
            try:
                if int(self._redis.llen(work_class)) < _MOST_IN_LINE:
                    self._celery.send_task(DRAIN, queue=work_class, retry=False)
            except (OperationalError, RedisError, OSError) as error:
                logger.warning("doorbell not rung", extra={"action": "ring_lost", "error": str(error)})
                rest_until_s = clock.monotonic() + _PAUSE_S
