"""The text of a step that speaks while it works, told as it grows."""

from __future__ import annotations

import logging

from app import clock
from app.domain.run import Step
from app.errors import Unavailable
from app.runs.advance import Advance, Said
from app.runs.service import Announcer
from app.store.store import Store

logger = logging.getLogger(__name__)

_GAP_S = 0.2  # between two parts of a text
_LOOK_S = 1.0  # how often a step whose turn has not come asks again


class Speech:
    """Tells a step's text in parts, each a fact of the run's log, at most five a second.

    What is not told here is told with the step's end, so nothing is lost by not being told, or by a store that is away.
    """

    def __init__(self, store: Store, advance: Advance, announcer: Announcer, step: Step) -> None:
        self._store = store
        self._advance = advance
        self._announcer = announcer
        self._step = step
        self._said: Said | None = None
        self._next_s = 0.0

    def say(self, text: str) -> None:
        """`text` is all of it so far."""
        if clock.monotonic() >= self._next_s:
            pause_s = self._tell(text)
            self._next_s = clock.monotonic() + pause_s

    def _tell(self, text: str) -> float:
        """How long to wait with the next part."""
        try:
            done = self._store.commit_blocking(lambda tx: self._advance.say(tx, self._step, text, self._said))
        except Unavailable as error:
            logger.warning("a text waits to be told", extra={"action": "text_untold", "error": error.message})
            return _LOOK_S
        if done is None:
            return _LOOK_S
        self._said, notice = done
        self._announcer.tell(notice)
        return _LOOK_S if self._said.told is None else _GAP_S
