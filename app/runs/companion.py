"""What runs the steps beside a server, as the server sees it."""

from __future__ import annotations

from app.queue.doorbell import PipeDoorbell
from app.runs.advance import Advance
from app.runs.service import Announcer
from app.store.store import Store


class Companion:
    """No worker at all: steps wait until one comes. The embedded worker is the other kind."""

    def start(self, store: Store, advance: Advance, announcer: Announcer, doorbell: PipeDoorbell) -> None:
        """Called when the server's loop runs; returns at once."""

    def state(self) -> str:
        """`ready`, `starting` or `none`."""
        return "none"

    def stop(self) -> None:
        """Called when the server ends; returns when the worker has."""
