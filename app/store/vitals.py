"""What a database says of itself, for whoever examines an installation."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select, text

from app.settings import Settings
from app.store.engine import Tx
from app.store.schema import now_s
from app.store.store import open_session

_SQLITE_VERSION = text("SELECT sqlite_version()")
_POSTGRES_VERSION = text("SHOW server_version")
_NOW = select(now_s())


@dataclass(frozen=True)
class Vitals:
    """`version`: as the server writes it (`15.18 (Debian ...)`). `clock_s`: its clock, in seconds since 1970."""

    version: str
    clock_s: float

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0].split()[0])


def vitals(settings: Settings) -> Vitals:
    """Asks the database that the settings choose. Raises Unavailable when it can't be reached."""

    def ask(tx: Tx) -> Vitals:
        version = tx.row(_SQLITE_VERSION if settings.is_embedded else _POSTGRES_VERSION)
        clock = tx.row(_NOW)
        assert version is not None
        assert clock is not None
        return Vitals(version[0], clock[0])

    session = open_session(settings)
    try:
        answer: Vitals = session.query(ask)
        return answer
    finally:
        session.close()
