"""Values to rows and back: JSON columns and the structs of `app.domain`."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import ColumnElement

from app.domain.event import Event, EventKind
from app.domain.run import Run, RunStatus, Step, StepStatus
from app.store.schema import events, runs, steps

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()

RUN_COLUMNS: tuple[ColumnElement[Any], ...] = tuple(runs.c[name] for name in Run.__struct_fields__)
STEP_COLUMNS: tuple[ColumnElement[Any], ...] = tuple(steps.c[name] for name in Step.__struct_fields__)
EVENT_COLUMNS: tuple[ColumnElement[Any], ...] = tuple(events.c[name] for name in Event.__struct_fields__)


def to_json(value: Any) -> str:
    return _encoder.encode(value).decode()


def to_json_or_null(value: Any) -> str | None:
    return None if value is None else to_json(value)


def from_json(text: str | None) -> Any:
    return None if text is None else _decoder.decode(text)


def run_from(row: tuple[Any, ...]) -> Run:
    """A Run from RUN_COLUMNS."""
    named = dict(zip(Run.__struct_fields__, row, strict=True))
    named["status"] = RunStatus(named["status"])
    named["inputs"], named["outputs"] = from_json(named["inputs"]), from_json(named["outputs"])
    return Run(**named)


def step_from(row: tuple[Any, ...]) -> Step:
    """A Step from STEP_COLUMNS."""
    named = dict(zip(Step.__struct_fields__, row, strict=True))
    named["status"] = StepStatus(named["status"])
    for name in ("inputs", "outputs", "process_data"):
        named[name] = from_json(named[name])
    return Step(**named)


def event_from(row: tuple[Any, ...]) -> Event:
    """An Event from EVENT_COLUMNS."""
    named = dict(zip(Event.__struct_fields__, row, strict=True))
    named["kind"], named["payload"] = EventKind(named["kind"]), from_json(named["payload"])
    return Event(**named)
