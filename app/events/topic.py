"""One run as this process follows it: what is new is read once, and serves everybody who listens."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial

import msgspec

from app import clock
from app.domain.event import Event, EventKind, QueuePosition, Tick
from app.domain.run import Run, RunStatus, is_terminal
from app.errors import AtelierError, NotFound, Unavailable
from app.events.wakeups import Note, Wake
from app.store import runs as run_rows
from app.store.engine import Tx
from app.store.store import Store

_MOST_TICKS = 16
# A database that restarts is waited for: the run goes on, and so may its readers.
_AWAY_S = 60.0
_AGAIN_S = 0.25


class Fact(msgspec.Struct, frozen=True):
    """An event, and its run as it stands when the event is read.

    `frames` is where dialects keep what they have made of it, with the time: it is the same for every listener.
    """

    event: Event
    run: Run
    frames: dict[str, tuple[float, bytes]] = msgspec.field(default_factory=dict)


class Listener:
    """Somebody who listens to a topic: how far they have come, and how they are woken.

    `after` is the number of the last fact that they have taken, `ticked` the same for ticks.
    """

    __slots__ = ("_future", "_patience_s", "_quiet_since_s", "_timer", "_woken", "after", "ticked", "topic")

    def __init__(self, topic: Topic, after: int, patience_s: float) -> None:
        self.topic = topic
        self.after = after
        self.ticked = topic.ticked
        self._patience_s = patience_s
        self._woken = False
        self._future: asyncio.Future[bool] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._quiet_since_s = 0.0

    def wake(self) -> None:
        self._woken = True
        self._set(came=True)

    async def wait(self) -> bool:
        """Waits until it is woken, at most for its patience since the last time; True if it was."""
        came = True
        if not self._woken:
            loop = asyncio.get_running_loop()
            self._quiet_since_s = loop.time()
            if self._timer is None:  # one for many waits: what comes does not touch it
                self._timer = loop.call_later(self._patience_s, self._time_up, loop)
            self._future = loop.create_future()
            came = await self._future
            self._future = None
        if came:
            self._woken = False
        return came

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _time_up(self, loop: asyncio.AbstractEventLoop) -> None:
        left_s = self._quiet_since_s + self._patience_s - loop.time()
        if left_s > 0.001:
            self._timer = loop.call_later(left_s, self._time_up, loop)
        else:
            self._timer = None
            self._set(came=False)

    def _set(self, *, came: bool) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(came)


class Topic:
    """The facts after number `start` as far as they are known here, and the last few ticks.

    Facts are kept while a listener has not taken them. A listener holds no copies, so one that lags costs nothing; it
    loses ticks, never facts. One who comes with a number before `start` makes the topic read from there, once for
    all who come at that moment.
    """

    def __init__(self, run_id: str, after: int, store: Store, observe_lag: Callable[[float], None]) -> None:
        self.run_id = run_id
        self.seq = after
        self.ticked = 0
        self.listeners: set[Listener] = set()
        self.error: AtelierError | None = None
        self.is_over = False  # there will be no more facts
        self._start = self._wanted = after
        self._facts: list[Fact] = []
        self._ticks: deque[tuple[int, Tick | QueuePosition]] = deque(maxlen=_MOST_TICKS)
        self._queue_position = 0
        self._store = store
        self._observe_lag = observe_lag
        self._reading: asyncio.Task[None] | None = None
        self._read_again = False
        self._is_live = False  # once it has read: what is read first is replayed, and nobody was late

    def hear(self, note: Note) -> None:
        """A tick is passed on, a wake makes the topic read. A position that was told before is no news."""
        if isinstance(note, Wake):
            self.read()
            return
        if isinstance(note, QueuePosition):
            if note.queue_position == self._queue_position:
                return
            self._queue_position = note.queue_position
        self.ticked += 1
        self._ticks.append((self.ticked, note))
        self._wake_all()

    def read(self) -> None:
        """Reads what is new, soon; what comes while that is done is read after it."""
        self._read_again = True
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())

    def facts_for(self, listener: Listener) -> list[Fact]:
        """The known facts after the listener's; empty while they are being read. Raises what has ended the topic."""
        if self.error is not None:
            raise self.error
        if listener.after < self._start:
            self._wanted = min(self._wanted, listener.after)
            self.read()
            return []
        return self._facts[listener.after - self._start :]

    def stands_still_at(self, fact: Fact) -> bool:
        """True when nothing follows this fact for now: the run has ended with it, or waits for a person."""
        if fact.event.kind is EventKind.RUN_PAUSED:
            return fact.event.seq == self.seq and fact.run.status is RunStatus.PAUSED
        return fact.event.kind is EventKind.RUN_FINISHED

    def ticks_for(self, listener: Listener) -> list[Tick | QueuePosition]:
        """The ticks since the last call, or what is left of them."""
        since, listener.ticked = listener.ticked, self.ticked
        return [tick for number, tick in self._ticks if number > since]

    async def _read(self) -> None:
        try:
            until_s = None
            while self._read_again and self.listeners:
                self._read_again = False
                base = min(self._wanted, self.seq)
                try:
                    run, events = await self._store.find(partial(self._query, base))
                except Unavailable:
                    until_s = until_s or clock.monotonic() + _AWAY_S
                    if clock.monotonic() > until_s:
                        raise
                    self._read_again = True
                    await asyncio.sleep(_AGAIN_S)
                    continue
                until_s = None
                self._take(base, run, events)
        except AtelierError as error:
            self._fail(error)
        except Exception as error:
            self._fail(AtelierError(f"The run's events can't be read: {type(error).__name__}."))
            raise
        finally:
            self._reading = None

    def _query(self, base: int, tx: Tx) -> tuple[Run | None, list[Event]]:
        """The facts above `base` and their run. The first time it is read in any case, for it may be over."""
        events = run_rows.events_after(tx, self.run_id, base)
        if not events and self._is_live:
            return None, []
        run = run_rows.find_run(tx, self.run_id)  # after the events: an end that they tell of has come
        if run is None:
            raise NotFound("Workflow run not found.")
        return run, events

    def _take(self, base: int, run: Run | None, events: list[Event]) -> None:
        """Keeps what was read after number `base`, and wakes whoever waits for it."""
        facts = [Fact(event, run) for event in events] if run is not None else []
        reaches_back = base < self._start
        new = [fact for fact in facts if fact.event.seq > self.seq]
        if reaches_back:
            self._facts, self._start = facts, base
        else:
            self._drop_taken()
            self._facts += new
        self._wanted = self._start
        self.seq = self._start + len(self._facts)
        if run is not None and run.last_seq > self.seq:
            self.read()  # it has moved on between the two questions
        elif run is not None:
            self.is_over = is_terminal(run.status)
        if self._is_live and new:
            now_s = clock.time()
            for since_s in filter(None, map(_came_true_at, new)):
                self._observe_lag(max(0.0, now_s - since_s))
            self._drop_ticks_of_ended(new)
        self._is_live = True
        if facts or self.is_over:
            self._wake_all()

    def _drop_taken(self) -> None:
        taken = min((listener.after for listener in self.listeners), default=self.seq) - self._start
        if taken > 0:
            del self._facts[:taken]
            self._start += taken

    def _drop_ticks_of_ended(self, new: list[Fact]) -> None:
        ended = {fact.event.step.id for fact in new if fact.event.kind is EventKind.STEP_FINISHED and fact.event.step}
        if ended:
            running = (each for each in self._ticks if isinstance(each[1], Tick) and each[1].step_id not in ended)
            self._ticks = deque(running, maxlen=_MOST_TICKS)

    def _fail(self, error: AtelierError) -> None:
        self.error = error
        self._wake_all()

    def _wake_all(self) -> None:
        for listener in self.listeners:
            listener.wake()


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
