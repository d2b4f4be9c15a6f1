"""Sends what the outbox of the webhooks holds: one loop in the process that leads the upkeep.

A delivery is sent at least once: whoever claims it has a lease, and after a death somebody sends it again, under the
same id. Bodies are rendered and signed when they are sent, so that their URLs are fresh and no row holds a signature.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
from standardwebhooks import Webhook as Signature

from app import clock
from app.domain.detail import Detail, Part
from app.domain.request import WebhookEvent
from app.errors import Unavailable
from app.outbound.reach import Reach, webhook_reach
from app.runs import webhooks as verbs
from app.runs.service import Announcer
from app.settings import Settings
from app.store import deliveries, details
from app.store import webhooks as rows
from app.store.deliveries import MOST_BUSY_HOSTS, Delivery
from app.store.engine import Tx
from app.store.locks import Locks
from app.store.store import Store
from app.store.webhooks import Secrets

if TYPE_CHECKING:
    from app.outbound.transport import GuardedTransport

logger = logging.getLogger(__name__)

Render = Callable[[Detail], Any]
"""The run as its readers know it, with URLs signed now: something that becomes JSON."""

_EVERYTHING = frozenset(Part)
_GONE = 410
_ASK_LATER = (429, 503)
_LONGEST_ASKED_S = 3600.0  # what a receiver may put off by Retry-After
_LEASE_MORE_S = 10.0  # beyond the time that an attempt may take
_LAST_WORDS_S = 3.0  # what attempts under way get when the server stops
_AFTER_ANSWERS_S = 0.05  # whoever waits for the run that has ended comes first
_FORGET_EVERY_S = 60.0
_FORGET_MOST = 500
_DAY_S = 86400.0


class Answer(msgspec.Struct, frozen=True):
    """How an attempt went: the receiver's status, or the error that came in its place. After a final one is no next."""

    status: int | None = None
    error: str | None = None
    retry_after_s: float = 0.0
    final: bool = False

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class Sender:
    """Sends due deliveries, so many at once and a quarter of them to one host, and puts off what fails."""

    def __init__(self, store: Store, locks: Locks, announcer: Announcer, render: Render, settings: Settings) -> None:
        self._store = store
        self._locks = locks
        self._announcer = announcer
        self._render = render
        self._settings = settings
        self._most_a_host = math.ceil(settings.webhook_concurrency / MOST_BUSY_HOSTS)
        self._under_way: dict[asyncio.Task[None], str] = {}
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._transport: GuardedTransport | None = None
        announcer.post = self.wake

    def wake(self) -> None:
        """There may be something to send. From any thread; a note that gets lost costs a beat."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            with suppress(RuntimeError):  # it closed just now
                loop.call_soon_threadsafe(loop.call_later, _AFTER_ANSWERS_S, self._woken.set)

    async def watch(self) -> None:
        """Sends and forgets, until cancelled. What is under way then has a moment to end; the rest is sent again."""
        self._loop = asyncio.get_running_loop()
        try:
            await self._guarded(self.release)
            await asyncio.gather(self._send(), self._forget())
        finally:
            if self._under_way:
                await asyncio.wait(self._under_way, timeout=_LAST_WORDS_S)
            for task in list(self._under_way):
                task.cancel()
            if self._transport is not None:
                await self._transport.aclose()

    async def _send(self) -> None:
        while True:
            self._woken.clear()
            pause_s = await self._guarded(self.send_due) or self._settings.reaper_beat_s
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._woken.wait()

    async def _forget(self) -> None:
        while True:
            await asyncio.sleep(_FORGET_EVERY_S)
            await self._guarded(self.forget_old)

    async def _guarded(self, duty: Callable[[], Awaitable[float]]) -> float | None:
        """What the duty gives, if this process leads; a duty that fails is tried again with the next beat."""
        try:
            if self._settings.is_embedded or await asyncio.to_thread(self._locks.lead):
                return await duty()
        except Unavailable as error:
            logger.warning("upkeep put off", extra={"action": duty.__name__, "error": error.message})
        except Exception:
            logger.exception("upkeep failed", extra={"action": duty.__name__})
        return None

    async def release(self) -> float:
        """On SQLite only one server runs: what another one was sending when it died is sent again at once."""
        return float(await self._store.commit(deliveries.release)) if self._settings.is_embedded else 0.0

    async def send_due(self) -> float:
        """Begins every attempt that is due and has room; returns after how many seconds to look again."""
        beat_s = self._settings.reaper_beat_s
        while len(self._under_way) < self._settings.webhook_concurrency:
            hosts = Counter(self._under_way.values())
            busy = [host for host, count in hosts.items() if count >= self._most_a_host]
            found = await self._store.find(lambda tx, of=busy: deliveries.due(tx, beat_s, of))  # type: ignore[misc]
            chosen = self._choose(found, hosts)
            if chosen and self._transport is None:  # authorities are read from disk: not on the loop
                self._transport = await asyncio.to_thread(_open_transport, webhook_reach(self._settings))
            if not chosen:
                return max(0.01, min((each.wait_s for each in found if each.wait_s > 0), default=beat_s))
            claimed = await self._store.commit(lambda tx, of=chosen: self._claim(tx, of))  # type: ignore[misc]
            if not claimed:
                return beat_s
            host_of = {each.id: each.host for each in chosen}
            for held in claimed:
                task = asyncio.create_task(self._deliver(held))
                self._under_way[task] = host_of[held.id]
                task.add_done_callback(self._over)
        return beat_s

    def _choose(self, found: list[deliveries.Due], hosts: Counter[str]) -> list[deliveries.Due]:
        room = self._settings.webhook_concurrency - len(self._under_way)
        chosen: list[deliveries.Due] = []
        for each in found:
            if each.wait_s <= 0 and len(chosen) < room and hosts[each.host] < self._most_a_host:
                hosts[each.host] += 1
                chosen.append(each)
        return chosen

    def _claim(self, tx: Tx, chosen: list[deliveries.Due]) -> list[Delivery]:
        lease_s = self._settings.webhook_timeout_s + _LEASE_MORE_S
        claimed = (deliveries.claim(tx, each, lease_s) for each in chosen)
        return [each for each in claimed if each is not None]

    def _over(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        self._woken.set()

    async def _deliver(self, held: Delivery) -> None:
        """One attempt. Whatever happens it is written down, or the lease runs out and there is another."""
        try:
            try:
                answer = await self._attempt(held)
            except Unavailable:
                raise
            except Exception:
                logger.exception("delivery failed", extra={"action": "deliver", "run": held.run_id})
                answer = Answer(error="The server could not make the delivery.")
            await self._store.commit(lambda tx: self._settle(tx, held, answer))
        except Unavailable as error:
            logger.warning("delivery put off", extra={"action": "deliver", "error": error.message})
            return
        result = "delivered" if answer.delivered else "failed" if self._delay_s(held, answer) is None else "put_off"
        self._announcer.tally.count("delivery", result)
        level = logging.WARNING if result == "failed" else logging.INFO
        seen = {"run": held.run_id, "attempt": held.attempts, "status": answer.status, "error": answer.error}
        logger.log(level, f"delivery {held.id}", extra={"action": f"webhook_{result}", **seen})

    def _settle(self, tx: Tx, held: Delivery, answer: Answer) -> None:
        if answer.delivered:
            deliveries.settle(tx, held, "delivered", answer.status, None)
            return
        delay_s = self._delay_s(held, answer)
        state: deliveries.State = "failed" if delay_s is None else "pending"
        if deliveries.settle(tx, held, state, answer.status, answer.error, delay_s) and answer.status == _GONE:
            rows.disable(tx, held.run_id, held.webhook_id, "The receiver has answered 410: it wants no more.")

    def _delay_s(self, held: Delivery, answer: Answer) -> float | None:
        """Until the next attempt; None when there is none. A tenth of it is chance, so that a crowd comes apart."""
        waits_s = self._settings.webhook_retry_s
        if answer.final or held.attempts > len(waits_s):
            return None
        return max(waits_s[held.attempts - 1] * random.uniform(1.0, 1.1), answer.retry_after_s)

    async def _attempt(self, held: Delivery) -> Answer:
        detail = await self._store.read(
            lambda tx: details.find_detail(tx, held.app_id, held.run_id, _EVERYTHING), of_one_moment=True
        )
        if detail is None:
            return Answer(error="The run is no more.", final=True)
        secrets = await self._store.read(lambda tx: rows.secrets_of(tx, held.app_id))
        if secrets is None:
            secrets = await self._store.commit(lambda tx: verbs.secrets(tx, held.app_id))
        run = detail.run
        became_true_at = run.created_at if held.event == WebhookEvent.STARTED else run.finished_at
        message = {
            "type": held.event,
            "timestamp": _iso(became_true_at or run.created_at),
            "data": self._render(detail),
        }
        body = msgspec.json.encode(message)
        return await self._post(held.url, body, signed(held.id, body, secrets))

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        transport, timeout_s = self._transport, self._settings.webhook_timeout_s
        if transport is None:
            raise RuntimeError("attempts begin when there is a transport")
        try:
            async with asyncio.timeout(timeout_s):
                request = httpx.Request("POST", url, content=body, headers=headers)
                answer = await transport.handle_async_request(request)
                await answer.aclose()  # its status says all
        except (TimeoutError, httpx.TimeoutException):
            return Answer(error=f"No answer within {timeout_s:g} s.")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Answer(error=f"The connection failed: {str(error)[:200] or type(error).__name__}.")
        if 200 <= answer.status_code < 300:
            return Answer(answer.status_code)
        asked_s = _retry_after_s(answer.headers.get("retry-after", "")) if answer.status_code in _ASK_LATER else 0.0
        said = f"The receiver answered {answer.status_code}."
        return Answer(answer.status_code, said, asked_s, final=answer.status_code == _GONE)

    async def forget_old(self) -> float:
        """Deletes what the log has kept long enough, a bounded number at a time; how many it were."""
        older_s, forgotten = self._settings.webhook_log_days * _DAY_S, 0
        for forget in (deliveries.forget, rows.forget_run_webhooks):
            deleted = _FORGET_MOST
            while deleted == _FORGET_MOST:
                deleted = await self._store.commit(lambda tx, of=forget: of(tx, older_s, _FORGET_MOST))  # type: ignore[misc]
                forgotten += deleted
        return float(forgotten)


def _open_transport(reach: Reach) -> GuardedTransport:
    # 20 ms of every start that a server without webhooks has no use for.
    from app.outbound.transport import GuardedTransport  # noqa: PLC0415

    return GuardedTransport(reach)


def signed(message_id: str, body: bytes, secrets: Secrets) -> dict[str, str]:
    """The headers of a delivery that is sent now, as Standard Webhooks has them: one signature for each secret."""
    now = datetime.now(UTC)
    text = body.decode()
    both = (secrets.current, secrets.old) if secrets.old else (secrets.current,)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(math.floor(now.timestamp())),
        "webhook-signature": " ".join(Signature(secret).sign(message_id, now, text) for secret in both),
        "content-type": "application/json",
        "user-agent": "Atelier",
    }


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _retry_after_s(text: str) -> float:
    """What a receiver asks for, as seconds or as a date, and no more than is reasonable; 0 for nothing readable."""
    try:
        asked_s = float(text) if text.isdigit() else parsedate_to_datetime(text).timestamp() - clock.time()
    except ValueError:
        return 0.0
    return min(max(asked_s, 0.0), _LONGEST_ASKED_S)
