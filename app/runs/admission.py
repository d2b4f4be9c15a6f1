"""Who may add work to the queue: limits of apps, of keys and of the queue, counted where the run is accepted."""

from __future__ import annotations

import math

import msgspec

from app import clock
from app.domain.request import Caller
from app.errors import TooManyRequests
from app.settings import Settings
from app.store import queue
from app.store.engine import Tx
from app.store.queue import Load, Pace

_FRESH_S = 1.0
_COUNTED_S = 0.2
_FULL_S = 0.1
_MOST_KEYS = 1000
_ALL = ""  # where a key's id would be
_UNKNOWN_S = 10  # when nothing has ended yet that could tell
_LONGEST_S = 60
_EVERYTHING = 1_000_000_000


class Admission:
    """Counts inside the accepting transaction, before anything of the run is written.

    `max_active` of an app or a key is exact, over all processes: whoever counts holds the app's or the key's row until
    its own run can be counted. How many steps wait is counted without a lock and remembered for a moment, with what
    this process accepts meanwhile: of what other processes accept in that time nothing is seen, and a queue may become
    longer by as many. Units that are rolled back make it look longer, so then it is counted again before a refusal.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._paces: dict[str, Pace] = {}
        self._fresh_until_s = 0.0
        self._counted: dict[str, tuple[int, float]] = {}  # by key: how many steps wait, and how long that is good
        self._full_until_s = 0.0

    def admit(self, tx: Tx, caller: Caller, work_class: str) -> None:
        """Raises TooManyRequests when a limit of the caller, its app or the queue is reached."""
        most = self._limits(caller)
        if most.app_active:
            queue.lock_app(tx, caller.app_id)
        if most.key_active:
            queue.lock_key(tx, caller.key_id)
        load = self._load(tx, caller, most)
        for name in Load.__struct_fields__:
            limit = getattr(most, name)
            if limit and getattr(load, name) >= limit:
                raise self._refusal(tx, caller, name, limit, work_class)
        self._accepted(caller)

    def _load(self, tx: Tx, caller: Caller, most: Load) -> Load:
        """Runs are counted each time. Queues as they were counted a moment ago, unless that says that they are full."""
        of_key, of_all = self._known(caller.key_id, most.key_queued), self._known(_ALL, most.queued)
        if most.queued and clock.monotonic() < self._full_until_s:
            of_all = most.queued
        bounds = msgspec.structs.replace(
            most,
            key_queued=most.key_queued if of_key is None else 0,
            queued=most.queued if of_all is None else 0,
        )
        load = Load(0, 0, 0, 0)
        if bounds != load:
            load = queue.load_of(tx, caller.app_id, caller.key_id, bounds)
        if bounds.key_queued:
            self._remember(caller.key_id, load.key_queued)
        if bounds.queued:
            self._remember(_ALL, load.queued)
            if load.queued >= most.queued:
                self._full_until_s = clock.monotonic() + _FULL_S
        return msgspec.structs.replace(
            load,
            key_queued=load.key_queued if of_key is None else of_key,
            queued=load.queued if of_all is None else of_all,
        )

    def _known(self, of: str, limit: int) -> int | None:
        """None when it is to be counted."""
        count, until_s = self._counted.get(of, (limit, 0.0))
        return None if count >= limit or clock.monotonic() >= until_s else count

    def _remember(self, of: str, count: int) -> None:
        if len(self._counted) > _MOST_KEYS:
            self._counted.clear()
        self._counted[of] = (count, clock.monotonic() + _COUNTED_S)

    def _accepted(self, caller: Caller) -> None:
        for of in (caller.key_id, _ALL):
            if of in self._counted:
                count, until_s = self._counted[of]
                self._counted[of] = (count + 1, until_s)

    def _limits(self, caller: Caller) -> Load:
        return Load(
            app_active=caller.app_max_active,
            key_active=caller.max_active,
            key_queued=caller.max_queued or self._settings.queue_depth_per_key,
            queued=self._settings.queue_depth,
        )

    def _refusal(self, tx: Tx, caller: Caller, name: str, limit: int, work_class: str) -> TooManyRequests:
        current = limit
        if name != "queued":
            one = msgspec.structs.replace(Load(0, 0, 0, 0), **{name: _EVERYTHING})
            current = getattr(queue.load_of(tx, caller.app_id, caller.key_id, one), name)
        said = _SAID[name].format(app_id=caller.app_id, limit=limit, current=current)
        wait_s = self._wait_s(tx, work_class, current - limit + 1)
        return TooManyRequests(
            f"Too many requests. Please try again later. {said}", limit=limit, current=current, retry_after_s=wait_s
        )

    def _wait_s(self, tx: Tx, work_class: str, ends: int) -> int:
        """How long it takes until so many steps have ended, by how long the last ones took."""
        if clock.monotonic() >= self._fresh_until_s:
            self._paces, self._fresh_until_s = queue.paces(tx), clock.monotonic() + _FRESH_S
        pace = self._paces.get(work_class)
        if pace is None or pace.gap_s is None:
            return _UNKNOWN_S
        return min(max(1, math.ceil(pace.gap_s * ends)), _LONGEST_S)


_SAID = {
    "app_active": "The current maximum concurrent requests allowed for {app_id} is {limit}. There are {current}.",
    "key_active": "At most {limit} runs of this key may be under way at once, and there are {current}.",
    "key_queued": "At most {limit} steps of this key may wait for a worker, and there are {current}.",
    "queued": "At most {limit} steps may wait for a worker here, and there are {current}.",
}


def is_counted(caller: Caller) -> bool:
    """True when accepting a run of the caller locks what others lock too: it is to be alone in its transaction."""
    return bool(caller.app_max_active or caller.max_active)
