"""A run's events as one reader sees them: what is stored is replayed, then what comes is followed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import msgspec

from app import clock
from app.domain.event import Event, EventKind, QueuePosition, Tick
from app.domain.run import Run, is_terminal
from app.errors import NotFound, Unavailable
from app.events.wakeups import LocalWakeups
from app.store import runs as run_rows
from app.store.engine import Tx
from app.store.store import Store
from app.tally import Spread

T = TypeVar("T")

# Without a wake-up (it was lost, or came from another machine) a reader looks this often.
_LOOK_S = 1.0
# A database that restarts is waited for: the run goes on, and so may its readers.
_AWAY_S = 60.0
_AGAIN_S = 0.25


class Fact(msgspec.Struct, frozen=True):
    """An event, and its run as it stands when the event is read."""

    event: Event
    run: Run


class Silence(msgspec.Struct, frozen=True):
    """Nothing has happened for a while: time for a ping."""


class Feed:
    """Reads the events of runs. It drives nothing: a reader that leaves changes nothing."""

    def __init__(self, store: Store, wakeups: LocalWakeups, lag: Spread) -> None:
        self._store = store
        self._wakeups = wakeups
        self._lag = lag

    async def wait(self, run_id: str) -> Run:
        """The run once it has ended."""
        with self._wakeups.listen(run_id) as mailbox:
            while not is_terminal((run := await self._read(lambda tx: _existing(tx, run_id))).status):
                while await mailbox.wait(_LOOK_S) and not mailbox.take_wake():
                    mailbox.ticks.clear()  # progress is no reason to read the run again
        return run

    async def follow(
        self, run_id: str, silence_s: float, after: int = 0
    ) -> AsyncIterator[Fact | Tick | QueuePosition | Silence]:
        """Every fact with a number above `after`, once and in order, until the one that ends the run; ticks between."""
        with self._wakeups.listen(run_id) as mailbox:
            quiet_s, look, live = 0.0, True, False
            while True:
                for fact in await self._facts(run_id, after) if look else ():
                    quiet_s, after = 0.0, fact.event.seq
                    yield fact
                    if live and (since := _came_true_at(fact)) is not None:
                        self._lag.observe(max(0.0, clock.time() - since))
                    if fact.event.kind == EventKind.RUN_FINISHED:
                        return
                live = True  # what was read first is replayed: however old it is, nobody was late
                while mailbox.ticks:
                    quiet_s = 0.0
                    yield mailbox.ticks.popleft()
                patience_s = min(_LOOK_S, silence_s)
                if await mailbox.wait(patience_s):
                    look = mailbox.take_wake()
                    continue
                look, quiet_s = True, quiet_s + patience_s
                if quiet_s >= silence_s:
                    quiet_s = 0.0
                    yield Silence()

    async def _facts(self, run_id: str, after: int) -> list[Fact]:
        return await self._read(lambda tx: _facts_after(tx, run_id, after))

    async def _read(self, query: Callable[[Tx], T]) -> T:
        until_s = clock.monotonic() + _AWAY_S
        while True:
            try:
                return await self._store.read(query)
            except Unavailable:
                if clock.monotonic() > until_s:
                    raise
            await asyncio.sleep(_AGAIN_S)


def _came_true_at(fact: Fact) -> float | None:
    """When its commit was decided, in seconds since 1970; None for what does not say."""
    event, run = fact.event, fact.run
    match event.kind:
        case EventKind.STEP_STARTED if event.step is not None:
            return event.step.created_at
        case EventKind.STEP_FINISHED if event.step is not None:
            return event.step.finished_at
        case EventKind.STEP_RETRIED:
            return float((event.payload or {})["at"])
        case EventKind.RUN_FINISHED:
            return run.finished_at
    return None


def _existing(tx: Tx, run_id: str) -> Run:
    run = run_rows.find_run(tx, run_id)
    if run is None:
        raise NotFound("Workflow run not found.")
    return run


def _facts_after(tx: Tx, run_id: str, after: int) -> list[Fact]:
    new = run_rows.events_after(tx, run_id, after)
    if not new:
        return []
    run = _existing(tx, run_id)  # after the events: an end that they tell of has come
    return [Fact(event, run) for event in new]
