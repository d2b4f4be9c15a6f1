"""Who is alive, told by the database itself: a session's advisory locks end with the session, within milliseconds.

That is quicker than any lease, and proves less: a lock may be lost with a cut connection while its holder works on.
So whoever acts on it gives a step back, which is safe at any time: the fence refuses the former holder's outcome.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from app.settings import Settings


class Locks(Protocol):
    """The locks of one process. Methods block, raise Unavailable, and may be called by any thread."""

    def lead(self) -> bool:
        """True when this process is the one that does the upkeep."""
        ...

    def hold(self, worker_id: str) -> None:
        """Holds the worker's sign of life from now on; called again, makes sure that it is still held."""
        ...

    def release(self, worker_id: str) -> None: ...

    def dead_workers(self, worker_ids: Iterable[str]) -> set[str]:
        """Those of the workers whose sign of life nobody holds."""
        ...

    def close(self) -> None: ...


class Suspects:
    """Who was found dead at two looks in a row: at one, a lock may have been lost with a cut connection."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def surely(self, dead: set[str]) -> set[str]:
        """Those of the dead of this look that were dead at the last one too."""
        sure, self._seen = dead & self._seen, dead
        return sure


class NoLocks:
    """SQLite: one server owns the database, and sees its worker die by itself."""

    def lead(self) -> bool:
        return True

    def hold(self, worker_id: str) -> None: ...

    def release(self, worker_id: str) -> None: ...

    def dead_workers(self, worker_ids: Iterable[str]) -> set[str]:
        return set()

    def close(self) -> None: ...


def open_locks(settings: Settings) -> Locks:
    """The locks of the database that the settings choose."""
    if settings.is_embedded:
        return NoLocks()
    from app.store.postgres_locks import PostgresLocks  # noqa: PLC0415 - the embedded form has no use for the driver

    return PostgresLocks(settings.database_url, settings.lease_s)
