"""Downloads and uploads of gigabytes: each goes on by itself, and tells whoever listens how far it is."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

import msgspec

from app import clock
from app.errors import AtelierError, Unavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")

_TELL_S = 0.1  # between two lines about the same file
_AT_ONCE = 4


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far it is. `digest` says of what; `total` and `completed` are bytes."""

    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0


class Stopped(Exception):
    """The server ends; what has come is kept."""


class Transfer:
    """One that is under way. Whoever comes late hears everything, of each file the last that was told."""

    def __init__(self, loop: asyncio.AbstractEventLoop, first: str) -> None:
        self._loop = loop
        self._told = [Told(first)]
        self._changed = asyncio.Event()
        self._ended = False
        self._error: AtelierError | None = None
        self._last_s = 0.0
        self._last: Told | None = None
        self._waiting: Told | None = None
        self._is_timed = False
        self.stopping = threading.Event()

    def tell(self, status: str, digest: str = "", total: int = 0, completed: int = 0) -> None:
        """Called by the thread that does the work. Raises Stopped."""
        if self.stopping.is_set():
            raise Stopped
        told, before, now_s = Told(status, digest, total, completed), self._last, clock.monotonic()
        goes_on = before is not None and (before.status, before.digest) == (status, digest)
        if goes_on and now_s - self._last_s < _TELL_S and completed != total:
            self._waiting = told
            if not self._is_timed:
                self._is_timed = True
                self._loop.call_soon_threadsafe(self._loop.call_later, _TELL_S, self._tell_waiting)
            return
        self._waiting, self._last, self._last_s = None, told, now_s
        self._loop.call_soon_threadsafe(self._add, told)

    def _tell_waiting(self) -> None:
        """Where nothing more has come, what came last is told all the same."""
        self._is_timed = False
        told, self._waiting = self._waiting, None
        if told is not None and not self._ended:
            self._add(told)

    def _add(self, told: Told) -> None:
        last = self._told[-1] if self._told else None
        if told == last:
            return
        if last is not None and last.digest and (last.status, last.digest) == (told.status, told.digest):
            self._told[-1] = told
        else:
            self._told.append(told)
        self._notify()

    def end(self, error: AtelierError | None) -> None:
        self._ended, self._error = True, error
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def follow(self) -> AsyncGenerator[Told, None]:
        """Everything from the beginning on. Raises what it ended with."""
        at, seen = 0, None
        while True:
            changed = self._changed
            if at < len(self._told) and self._told[at] is not seen:
                seen = self._told[at]
                yield seen
            elif at + 1 < len(self._told):
                at += 1
            elif self._ended:
                break
            else:
                await changed.wait()
        if self._error is not None:
            raise self._error


class Transfers:
    """Those of one process. Two that ask for the same thing share one; a listener that leaves ends nothing."""

    def __init__(self) -> None:
        self._under_way: dict[str, Transfer] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def join(self, key: str, first: str, work: Callable[[Transfer], Awaitable[None]]) -> Transfer:
        """The transfer of that key, begun if it is not under way; `first` is told at once, even while it waits."""
        known = self._under_way.get(key)
        if known is not None:
            return known
        transfer = self._under_way[key] = Transfer(asyncio.get_running_loop(), first)
        task = asyncio.create_task(self._do(key, transfer, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return transfer

    async def _do(self, key: str, transfer: Transfer, work: Callable[[Transfer], Awaitable[None]]) -> None:
        error: AtelierError | None = None
        try:
            async with self._turns:
                await work(transfer)
        except AtelierError as failure:
            error = failure
        except (Stopped, asyncio.CancelledError):
            error = Unavailable("The server ends. What has come is kept: ask again, and it goes on from there.")
        except Exception:
            logger.exception("transfer failed", extra={"action": "transfer_failed"})
            error = AtelierError("Internal server error")
        finally:
            self._under_way.pop(key, None)
            transfer.end(error)

    def end(self) -> None:
        """Ends all, and so the answers that tell of them. What is stuck in a connection ends with the process."""
        for transfer in self._under_way.values():
            transfer.stopping.set()
        for task in tuple(self._tasks):
            task.cancel()


async def in_thread(work: Callable[[], T]) -> T:
    """What the work gives, done by a thread that no end of the process waits for."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="transfer", daemon=True).start()
    return await future
