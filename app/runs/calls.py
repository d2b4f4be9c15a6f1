"""The same request, asked again: it gets the run that it has made already.

Two things say that a request is the same. An `Idempotency-Key` does, for a day. Without one, a blocking call does that
comes again a short while after its connection broke unanswered: clients do that by themselves, and mean one run. Calls
whose connections live are never merged, however alike they are: four pictures of one prompt are four runs.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable
from functools import partial

import msgspec

from app import ids
from app.domain.request import RunRequest
from app.domain.run import Task
from app.errors import AtelierError, IdempotencyConflict, TooManyRequests, Unavailable
from app.runs.admission import is_counted
from app.runs.advance import Advance, Notice
from app.runs.movement import Movement
from app.settings import Settings
from app.store import calls
from app.store.engine import Tx
from app.store.locks import Locks, Suspects
from app.store.store import Store

logger = logging.getLogger(__name__)

# A call that waits may have broken a moment ago: its break is on its way to the database, from here or from elsewhere.
_BREAK_IS_HEARD_S = 0.01
_BREAK_TRAVELS_S = 0.05
# A sign of life may be lost with a cut connection; its holder takes it again within this time.
_LIFE_RETURNS_S = 0.5
_LIFE_BEAT_S = 0.35
_FORGET_BEATS = 100

_encoder = msgspec.json.Encoder(order="deterministic")


class Replayed(msgspec.Struct, frozen=True):
    """The request has made this run already."""

    run_id: str


class _Doubtful(msgspec.Struct, frozen=True):
    """Nothing was written: the same call waits at these processes, or did until a moment ago."""

    server_ids: frozenset[str]


class Calls:
    """Remembers in the database which request made which run. One for each server process."""

    def __init__(self, store: Store, advance: Advance, locks: Locks, settings: Settings) -> None:
        self._store = store
        self._advance = advance
        self._locks = locks
        self._settings = settings
        self.server_id = ids.new_id()
        self._open: set[str] = set()
        self._suspects = Suspects()
        self._telling: set[asyncio.Task[None]] = set()

    async def replayed(self, request: RunRequest) -> Replayed | None:
        """The run that the request's Idempotency-Key has made. Raises IdempotencyConflict."""
        name = request.idempotency_key
        if name is None:
            return None
        key_id = request.caller.key_id
        found = await self._store.find(lambda tx: calls.run_of_key(tx, key_id, name))
        return None if found is None else _same(found, fingerprint(request))

    def accept(self, request: RunRequest, task: Task, movement: Movement) -> Awaitable[Notice | Replayed]:
        """Inserts the run, unless the request has made one. Raises IdempotencyConflict, TooManyRequests."""
        if request.idempotency_key is not None:
            return self._accept_named(request, request.idempotency_key, task, movement)
        if not movement.new_work:  # it has ended: nobody waits for it, and no limit counts it
            return self._store.commit(lambda tx: self._advance.insert(tx, task, movement, request))
        if request.response_mode == "blocking" and self._settings.reattach_s:
            return self._accept_waiting(request, task, movement)
        return self._accept_new(request, task, movement)

    def ended(self, run_id: str, *, answered: bool) -> None:
        """A blocking call has got its answer, or its connection broke before. Written in the background."""
        if run_id not in self._open:
            return
        self._open.discard(run_id)
        telling = asyncio.create_task(self._tell(run_id, answered=answered))
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)

    async def close(self) -> None:
        """Waits until everything is written that `ended` was told."""
        await asyncio.gather(*self._telling)

    async def begin(self) -> None:
        """On SQLite only one server runs: calls that another one held broke with it."""
        if self._settings.is_embedded:
            for server_id in await self._store.read(calls.call_holders):
                await self._break_calls_of(server_id)

    async def watch(self) -> None:
        """Shows that this process lives, finds calls whose process does not, forgets old ones; until cancelled."""
        beats = 0
        while True:
            try:
                await asyncio.to_thread(self._locks.hold, self.server_id)
                if await asyncio.to_thread(self._locks.lead):
                    await self._break_calls_of_the_dead()
                    if beats % _FORGET_BEATS == 0:
                        await self._forget_old()
            except Unavailable as error:
                logger.warning("upkeep put off", extra={"action": "calls", "error": error.message})
            except Exception:
                logger.exception("upkeep failed", extra={"action": "calls"})
            beats += 1
            await asyncio.sleep(_LIFE_BEAT_S)

    async def _break_calls_of_the_dead(self) -> None:
        """A process whose sign of life is gone at two looks has died, and its connections with it."""
        holders = frozenset(await self._store.read(calls.call_holders)) - {self.server_id}
        dead = await self._dead(holders) if holders else set()
        for server_id in self._suspects.surely(dead):
            await self._break_calls_of(server_id)

    async def _break_calls_of(self, server_id: str) -> None:
        broken = await self._store.commit(lambda tx: calls.break_calls_of(tx, server_id))
        logger.warning("calls broke with their server", extra={"action": "calls_broke", "calls": broken})

    async def _forget_old(self) -> None:
        since_s = self._settings.reattach_s
        if await self._store.read(lambda tx: calls.has_old_calls(tx, since_s)):
            await self._store.commit(lambda tx: calls.forget_old_calls(tx, since_s))

    async def _accept_new(self, request: RunRequest, task: Task, movement: Movement) -> Notice:
        insert = partial(self._insert, request=request, task=task, movement=movement)
        done = await self._store.commit(insert, alone=_alone(request, movement))
        if isinstance(done, TooManyRequests):
            raise done
        return done

    async def _accept_named(self, request: RunRequest, name: str, task: Task, movement: Movement) -> Notice | Replayed:
        printed, key_id, ttl_s = fingerprint(request), request.caller.key_id, self._settings.idempotency_ttl_s

        def accept(tx: Tx) -> Notice | tuple[str, str]:
            found = calls.run_of_key(tx, key_id, name)
            if found is None and not calls.claim_key(tx, key_id, name, printed, task.run_id, ttl_s):
                found = calls.run_of_key(tx, key_id, name)
            # Found as its own: it was committed before, only the answer got lost.
            return found if found and found[0] != task.run_id else self._advance.insert(tx, task, movement, request)

        done = await self._store.commit(accept, alone=_alone(request, movement))
        return done if isinstance(done, Notice) else _same(done, printed)

    async def _accept_waiting(self, request: RunRequest, task: Task, movement: Movement) -> Notice | Replayed:
        """Without a key: attaches to a broken call; what waits elsewhere is looked at twice."""
        printed = fingerprint(request)
        alive: frozenset[str] = frozenset()

        def accept(tx: Tx) -> Notice | Replayed | TooManyRequests | _Doubtful:
            return self._attach_or_insert(tx, printed, request, task, movement, alive)

        while True:
            done = await self._store.commit(accept, alone=_alone(request, movement))
            if isinstance(done, TooManyRequests):
                raise done
            if not isinstance(done, _Doubtful):
                break
            await self._look_again(done.server_ids)
            alive |= done.server_ids
        self._open.add(done.run_id)
        return done

    def _attach_or_insert(
        self, tx: Tx, printed: str, request: RunRequest, task: Task, movement: Movement, alive: frozenset[str]
    ) -> Notice | Replayed | TooManyRequests | _Doubtful:
        same = [call for call in calls.same_calls(tx, printed, self._settings.reattach_s) if call.run_id != task.run_id]
        for call in same:
            if call.is_broken and calls.take_call(tx, call.run_id, self.server_id):
                return Replayed(call.run_id)
        doubtful = {call.server_id for call in same if not call.is_broken} - alive
        if doubtful:
            return _Doubtful(frozenset(doubtful))
        if tx.again:  # a call that is ours, and that no connection here waits for: we took it, the answer got lost
            for call in same:
                if call.server_id == self.server_id and call.run_id not in self._open:
                    return Replayed(call.run_id)
        done = self._insert(tx, request, task, movement)
        if isinstance(done, Notice):
            calls.insert_call(tx, task.run_id, printed, self.server_id)
        return done

    def _insert(self, tx: Tx, request: RunRequest, task: Task, movement: Movement) -> Notice | TooManyRequests:
        """A refusal comes back as a value: nothing was written, and what shares the transaction may go on."""
        try:
            return self._advance.insert(tx, task, movement, request)
        except TooManyRequests as refusal:
            return refusal

    async def _look_again(self, server_ids: frozenset[str]) -> None:
        """Says of dead processes that their calls broke; living ones get a moment to say so of single calls."""
        if server_ids == {self.server_id}:
            await asyncio.sleep(_BREAK_IS_HEARD_S)
            return
        dead = await self._dead(server_ids)
        if not dead:
            await asyncio.sleep(_BREAK_TRAVELS_S)
            return
        await asyncio.sleep(_LIFE_RETURNS_S)
        for server_id in dead & await self._dead(server_ids):
            await self._break_calls_of(server_id)

    async def _dead(self, server_ids: frozenset[str]) -> set[str]:
        try:
            return await asyncio.to_thread(self._locks.dead_workers, server_ids)
        except Unavailable:  # then nobody is called dead
            return set()

    async def _tell(self, run_id: str, *, answered: bool) -> None:
        write = calls.answer_call if answered else calls.break_call
        try:
            await self._store.commit(lambda tx: write(tx, run_id, self.server_id))
        except AtelierError as error:
            logger.warning("end of a call not stored", extra={"action": "call_end_lost", "error": error.message})


def _alone(request: RunRequest, movement: Movement) -> bool:
    return bool(movement.new_work) and is_counted(request.caller)


def fingerprint(request: RunRequest) -> str:
    """What makes two requests the same: the app, the end-user and what is asked for, but not how it is answered."""
    asked: tuple[object, ...]
    inputs = request.told or request.inputs
    asked = (request.caller.app_id, request.user, inputs, request.priority, request.deadline_s, request.webhook)
    if request.files:
        asked = (*asked, request.files)
    if request.workflow_id is not None:
        asked = (*asked, request.workflow_id)
    if request.shipped:
        asked = (*asked, request.dialect, request.shipped)
    return hashlib.sha256(_encoder.encode(asked)).hexdigest()


def _same(found: tuple[str, str], printed: str) -> Replayed:
    run_id, made_by = found
    if made_by != printed:
        raise IdempotencyConflict(
            f"This Idempotency-Key has made the run {run_id} from another body: send the same body, or use a new key."
        )
    return Replayed(run_id)
