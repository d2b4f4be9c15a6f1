"""Asking again how a run stands: no news costs no query, and who likes may wait for news."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import msgspec

from app import clock
from app.domain.detail import Detail, Part
from app.domain.request import Caller
from app.domain.run import Run, is_terminal
from app.events.feed import Feed
from app.events.standings import Standing, Standings
from app.runs.queue_view import Place, QueueView
from app.runs.service import RunService


class Asked(Protocol):
    """What somebody who asks knows already."""

    @property
    def may_be_told_nothing(self) -> bool:
        """False for one who knows nothing: they get the run as it is, news or not."""
        ...

    def is_news(self, standing: Standing) -> bool: ...


class Seen(msgspec.Struct, frozen=True):
    """How a run stands; the run itself when that is news, with the parts that were asked for, if any."""

    standing: Standing
    run: Run | None = None
    more: Detail | None = None
    place: Place | None = None


class Polls:
    """Answers polls, from what this process remembers of runs wherever that will do."""

    def __init__(self, service: RunService, feed: Feed, standings: Standings, queue_view: QueueView) -> None:
        self._service = service
        self._queue_view = queue_view
        self._feed = feed
        self._standings = standings

    async def ask(self, caller: Caller, run_id: str, parts: Collection[Part], asked: Asked, wait_s: float) -> Seen:
        """How the run stands, with the run if that is news. Waits for news at most so long. Raises NotFound."""
        until_s, seen = clock.monotonic() + wait_s, None
        standing = self._standings.find(run_id)
        if standing is None or standing.app_id != caller.app_id:
            seen = await self._read(caller, run_id, parts)
            standing = seen.standing
        while not asked.is_news(standing) and (left_s := until_s - clock.monotonic()) > 0:
            moved = await self._feed.beyond(run_id, standing.seq, left_s)
            if moved is None:
                break
            standing = self._standings.remember(moved)
            seen = None if parts else Seen(standing, moved)
        if asked.may_be_told_nothing and not asked.is_news(standing):
            return Seen(standing)
        return seen or await self._read(caller, run_id, parts)

    async def place_of(self, run: Run) -> Place | None:
        """Where the run stands in the queue; None when it does not wait for a worker."""
        return None if is_terminal(run.status) else await self._queue_view.place_of(run.id)

    async def _read(self, caller: Caller, run_id: str, parts: Collection[Part]) -> Seen:
        if not parts:
            run = await self._service.get(caller, run_id)
            return Seen(self._standings.remember(run), run)
        more = await self._service.detail(caller, run_id, parts)
        place = await self._queue_view.place_of(run_id) if Part.PROGRESS in parts and more.waits else None
        return Seen(self._standings.remember(more.run), more.run, more, place)
