"""What the parent of workers is tied to, and how it gives their steps back."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from app.domain.run import Retry, Step
from app.queue.doorbell import PipeDoorbell
from app.runs.advance import Advance
from app.runs.service import Announcer
from app.store.store import Store


class Ties(msgspec.Struct, frozen=True):
    store: Store
    advance: Advance
    announcer: Announcer
    doorbell: PipeDoorbell

    def give_back(self, held: Iterable[Step], why: Retry) -> None:
        """Each by itself, so that one that fails holds up no other. Raises Unavailable."""
        for step in held:
            notice = self.store.commit_blocking(lambda tx, step=step: self.advance.give_back(tx, step, why))  # type: ignore[misc]
            if notice is not None and notice.rings:
                self.announcer.tally.count("given_back", why.error_type)
            self.announcer.tell(notice)
