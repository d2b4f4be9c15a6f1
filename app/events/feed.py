"""A run's events as one reader sees them: what is stored is replayed, then what comes is followed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

import msgspec

from app.domain.event import EventKind, QueuePosition, Tick
from app.domain.run import Run
from app.errors import Unavailable
from app.events.lookout import Lookout
from app.events.topic import Fact, Listener, Topic
from app.store.store import Store
from app.tally import Spread

_LONG_S = 3600.0


class Silence(msgspec.Struct, frozen=True):
    """Nothing has happened for a while: time for a ping."""


class Feed:
    """Reads the events of runs. It drives nothing: a reader that leaves changes nothing.

    All readers of a run share one topic, which reads each fact from the store once, however many they are.
    """

    def __init__(self, store: Store, lookout: Lookout, lag: Spread) -> None:
        self._store = store
        self._lookout = lookout
        self._lag = lag
        self._topics: dict[str, Topic] = {}
        self._is_closing = False

    async def wait(self, run_id: str, after: int = 0) -> Run:
        """The run once it has ended or pauses. `after`: a fact that did neither. Raises NotFound, Unavailable."""
        with self._listen(run_id, after, _LONG_S) as listener:
            while True:
                for fact in listener.topic.facts_for(listener):
                    listener.after = fact.event.seq
                    if listener.topic.stands_still_at(fact):
                        return fact.run
                await listener.wait()

    async def follow(
        self, run_id: str, silence_s: float, after: int = 0, *, through_pauses: bool = False
    ) -> AsyncIterator[Fact | Tick | QueuePosition | Silence]:
        """Every fact with a number above `after`, once and in order, until the one that ends the run; ticks between.

        It ends where the run pauses, too, unless it is to go `through_pauses`.
        A run that had ended by `after` gives nothing. Raises NotFound; Unavailable when it can't go on, but might
        elsewhere or later: the database is away for too long, or this process ends.
        """
        with self._listen(run_id, after, silence_s) as listener:
            topic = listener.topic
            while True:
                facts = topic.facts_for(listener)
                for fact in facts:
                    yield fact
                    listener.after = fact.event.seq
                    if fact.event.kind is EventKind.RUN_FINISHED:
                        return
                    if not through_pauses and topic.stands_still_at(fact):
                        return
                if topic.is_over and topic.seq <= listener.after:
                    return
                ticks = topic.ticks_for(listener)
                for tick in ticks:
                    yield tick
                if self._is_closing:
                    raise Unavailable("The server is shutting down.")
                if not (facts or ticks or await listener.wait()):
                    yield Silence()

    async def beyond(self, run_id: str, after: int, patience_s: float) -> Run | None:
        """The run as soon as it has facts above `after`; None when that takes longer, or this process ends."""
        with suppress(TimeoutError), self._listen(run_id, after, _LONG_S) as listener:
            async with asyncio.timeout(patience_s):
                while not self._is_closing:
                    if facts := listener.topic.facts_for(listener):
                        return facts[-1].run
                    await listener.wait()
        return None

    def close(self) -> None:
        """Ends what follows, so that it goes on elsewhere. Who waits for a run's end may still see it."""
        self._is_closing = True
        for topic in self._topics.values():
            for listener in topic.listeners:
                listener.wake()

    @contextmanager
    def _listen(self, run_id: str, after: int, patience_s: float) -> Iterator[Listener]:
        """A place at the run's topic, for the length of a block; the first one opens it, the last one closes it."""
        topic = self._topics.get(run_id)
        if topic is None or topic.error is not None:
            topic = self._topics[run_id] = Topic(run_id, after, self._store, self._lag.observe)
            self._lookout.add(topic)
        listener = Listener(topic, after, patience_s)
        topic.listeners.add(listener)
        if len(topic.listeners) == 1:
            topic.read()
        try:
            yield listener
        finally:
            listener.close()
            topic.listeners.discard(listener)
            if not topic.listeners:
                self._lookout.remove(topic)
                if self._topics.get(run_id) is topic:
                    del self._topics[run_id]
