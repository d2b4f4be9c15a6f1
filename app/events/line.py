"""How this process reaches the others: its doorbell and its wake-ups, as the settings choose them."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from app.events.wakeups import LocalWakeups
from app.queue.doorbell import Doorbell, PipeDoorbell
from app.settings import Settings


class Line(msgspec.Struct, frozen=True):
    """A process's line to workers and listeners. `child_bell` reaches a worker that is this process's own child."""

    doorbell: Doorbell
    wakeups: LocalWakeups
    child_bell: PipeDoorbell
    closers: tuple[Callable[[], None], ...]

    def close(self) -> None:
        for close in self.closers:
            close()


def open_line(settings: Settings) -> Line:
    """Pipes and this process's own listeners; with REDIS_URL, Celery and Redis too."""
    child_bell = PipeDoorbell()
    if not settings.redis_url:
        return Line(child_bell, LocalWakeups(), child_bell, (child_bell.close,))
    # The embedded form must not pay for them.
    from app.events.shared import SharedWakeups  # noqa: PLC0415
    from app.queue.celery_doorbell import CeleryDoorbell  # noqa: PLC0415
    from app.queue.notes import NoteSender  # noqa: PLC0415

    sender = NoteSender(settings.redis_url)
    doorbell = CeleryDoorbell(settings.redis_url, sender)
    wakeups = SharedWakeups(settings.redis_url, sender)
    return Line(doorbell, wakeups, child_bell, (doorbell.close, wakeups.close, sender.close, child_bell.close))
