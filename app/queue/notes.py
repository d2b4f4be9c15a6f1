"""Notes between processes over Redis pub/sub: hints that may get lost, sent and heard on threads of their own.

Nothing here raises or blocks its caller: Redis may be slow, frozen or gone, and then a note is lost. Whoever waits for
one looks into the store as well.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from queue import Empty, Full, Queue

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

logger = logging.getLogger(__name__)

WAKES, HALTS, RINGS = "atelier:wakes", "atelier:halts", "atelier:rings"

_MOST_WAITING = 10_000
_TIMEOUT_S = 1.0
_PAUSE_S = 0.25  # after a failure; what is sent meanwhile is lost, and waits for nobody


def open_redis(url: str) -> Redis:
    """A client that gives up after a second, and does nothing twice by itself."""
    return Redis.from_url(
        url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=Retry(NoBackoff(), 0)
    )


class NoteSender:
    """Sends notes to a channel, one after the other, as long as Redis takes them."""

    def __init__(self, url: str) -> None:
        self._redis = open_redis(url)
        self._waiting: Queue[tuple[str, bytes]] = Queue(_MOST_WAITING)
        self._closed = False
        self._thread = threading.Thread(target=self._send_all, name="note-sender", daemon=True)
        self._thread.start()

    def send(self, channel: str, note: bytes) -> None:
        with suppress(Full):
            self._waiting.put_nowait((channel, note))

    def close(self) -> None:
        """Gives what waits half a second to be sent."""
        self._closed = True
        self.send("", b"")  # wakes the thread
        self._thread.join(0.5)

    def _send_all(self) -> None:
        while not self._closed or not self._waiting.empty():
            batch = [self._waiting.get()]
            try:
                while len(batch) < 100:
                    batch.append(self._waiting.get_nowait())
            except Empty:
                pass
            try:
                with self._redis.pipeline(transaction=False) as pipeline:
                    for channel, note in batch:
                        if channel:  # else the end of it, see `close`
                            pipeline.publish(channel, note)
                    pipeline.execute()
            except (RedisError, OSError) as error:
                logger.warning("notes lost", extra={"action": "notes_lost", "error": str(error)})
                time.sleep(_PAUSE_S)


class NoteListener:
    """Hears channels until it is closed, through every restart of Redis."""

    def __init__(self, url: str, heard: Mapping[str, Callable[[bytes], None]]) -> None:
        self._redis = open_redis(url)
        self._heard = {channel.encode(): hear for channel, hear in heard.items()}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="note-listener", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                with self._redis.pubsub(  # type: ignore[no-untyped-call]
                    ignore_subscribe_messages=True
                ) as channels:
                    channels.subscribe(*self._heard)
                    while not self._closed.is_set():
                        message = channels.get_message(timeout=0.5)
                        if message is not None:
                            self._heard[message["channel"]](message["data"])
            except (RedisError, OSError) as error:
                logger.warning("notes are not heard", extra={"action": "notes_unheard", "error": str(error)})
                self._closed.wait(_PAUSE_S)
            except Exception:
                logger.exception("a note could not be understood", extra={"action": "note_failed"})
