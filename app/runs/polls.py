"""Asking again how a run stands: no news costs no query, and who likes may wait for news."""

from __future__ import annotations

from typing import Protocol

from app import clock
from app.domain.request import Caller
from app.domain.run import Run
from app.events.feed import Feed
from app.events.standings import Standing, Standings
from app.runs.service import RunService


class Asked(Protocol):
    """What somebody who asks knows already."""

    @property
    def may_be_told_nothing(self) -> bool:
        """False for one who knows nothing: they get the run as it is, news or not."""
        ...

    def is_news(self, standing: Standing) -> bool: ...


class Polls:
    """Answers polls, from what this process remembers of runs wherever that will do."""

    def __init__(self, service: RunService, feed: Feed, standings: Standings) -> None:
        self._service = service
        self._feed = feed
        self._standings = standings

    async def ask(self, caller: Caller, run_id: str, asked: Asked, wait_s: float) -> tuple[Run | None, Standing]:
        """The run, and how it stands; no run when that is no news. Waits for news at most so long. Raises NotFound."""
        until_s, run = clock.monotonic() + wait_s, None
        standing = self._standings.find(run_id)
        if standing is None or standing.app_id != caller.app_id:
            run = await self._service.get(caller, run_id)
            standing = self._standings.remember(run)
        while not asked.is_news(standing) and (left_s := until_s - clock.monotonic()) > 0:
            moved = await self._feed.beyond(run_id, standing.seq, left_s)
            if moved is None:
                break
            run, standing = moved, self._standings.remember(moved)
        if asked.may_be_told_nothing and not asked.is_news(standing):
            return None, standing
        if run is None:
            run = await self._service.get(caller, run_id)
            standing = self._standings.remember(run)
        return run, standing
