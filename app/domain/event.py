"""A fact in a run's ordered log, and the ticks that are no facts."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from app.domain.run import Step


class EventKind(StrEnum):
    RUN_STARTED = "run_started"
    STEP_STARTED = "step_started"
    STEP_RETRIED = "step_retried"
    STEP_FINISHED = "step_finished"
    TEXT_CHUNK = "text_chunk"
    ROUNDS_STARTED = "rounds_started"  # a container knows what it goes through
    ROUND_STARTED = "round_started"
    ROUND_FINISHED = "round_finished"
    RUN_PAUSED = "run_paused"
    RUN_RESUMED = "run_resumed"
    FORM_REQUIRED = "form_required"
    FORM_FILLED = "form_filled"
    FORM_EXPIRED = "form_expired"
    RUN_FINISHED = "run_finished"


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A fact as it is written to its run's log, which numbers it.

    `step` is the step that it speaks of, as it stood then: a run's facts alone say how far it has come. A step that
    starts and ends in one transaction is written once, with its end. `payload` is the rest.
    """

    kind: EventKind
    step: Step | None = None
    payload: dict[str, Any] | None = None


class Event(msgspec.Struct, frozen=True):
    """A fact as it is read: number `seq` (1, 2, 3… without gaps) of its run, with its step in any case."""

    run_id: str
    seq: int
    kind: EventKind
    step: Step | None = None
    payload: dict[str, Any] | None = None


class QueuePosition(msgspec.Struct, frozen=True, tag="queue_position"):
    """Where a run stands that waits for a worker: 1 is next. Never stored, as a tick.

    `estimated_start` is in seconds since 1970; None: nothing is known that it could be reckoned from.
    """

    run_id: str
    queue_position: int
    estimated_start: int | None = None


class Tick(msgspec.Struct, frozen=True, tag="tick"):
    """Progress of a running step. Never stored: a reader who misses one misses nothing.

    `preview` is a small picture of how far it is, as a data URL.
    """

    run_id: str
    step_id: str
    node_id: str
    step: int
    steps: int
    eta_s: float | None
    preview: str | None = None
