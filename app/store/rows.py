"""Values to rows and back: JSON columns and the structs of `app.domain`."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import ColumnElement

from app.domain.event import Entry, Event, EventKind
from app.domain.run import Run, RunStatus, Step, StepStatus
from app.store.schema import runs, steps

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


_entries_decoder = msgspec.json.Decoder(list[Entry])
_scope_decoder = msgspec.json.Decoder(tuple[tuple[str, int], ...])
_STEP_JSON = ("inputs", "outputs", "process_data", "metadata")

RUN_COLUMNS: tuple[ColumnElement[Any], ...] = tuple(runs.c[name] for name in Run.__struct_fields__)
STEP_COLUMNS: tuple[ColumnElement[Any], ...] = tuple(steps.c[name] for name in Step.__struct_fields__)


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


def run_row(run: Run) -> dict[str, Any]:
    """The Run's own columns."""
    row = msgspec.structs.asdict(run)
    row["status"] = run.status.value
    row["inputs"], row["outputs"] = to_json(run.inputs), to_json(run.outputs)
    return row


def step_row(step: Step) -> dict[str, Any]:
    """The Step's own columns."""
    row = msgspec.structs.asdict(step)
    row["status"] = step.status.value
    for name in _STEP_JSON:
        if row[name] is not None:
            row[name] = to_json(row[name])
    row["scope"] = to_json(step.scope) if step.scope else None
    return row


def step_from(row: tuple[Any, ...]) -> Step:
    """A Step from STEP_COLUMNS."""
    named = dict(zip(Step.__struct_fields__, row, strict=True))
    named["status"] = StepStatus(named["status"])
    for name in _STEP_JSON:
        named[name] = from_json(named[name])
    named["scope"] = _scope_decoder.decode(named["scope"]) if named["scope"] else ()
    return Step(**named)


def events_from(run_id: str, row: tuple[Any, ...]) -> list[Event]:
    """The events of one row of (number of the first, entries)."""
    told: list[Event] = []
    ended: Step | None = None
    for seq, entry in reversed(list(enumerate(_entries_decoder.decode(row[1]), row[0]))):
        ended = entry.step or ended  # what started in the same transaction, the entry before
        step = ended if entry.kind is EventKind.STEP_STARTED else entry.step
        told.append(Event(run_id, seq, entry.kind, step, entry.payload))
    return told[::-1]
