"""Values to rows and back: JSON columns and the structs of `app.domain`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement

from app.domain.event import Event, EventKind
from app.domain.run import Run, RunStatus, Step, StepStatus
from app.store.schema import events, runs, steps

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


class _Fact(msgspec.Struct, frozen=True, array_like=True):
    """An event as it lies in its row: the run and the number are the row's."""

    kind: EventKind
    created_at: float
    step: Step | None
    payload: dict[str, Any] | None


_facts_decoder = msgspec.json.Decoder(list[_Fact])

RUN_COLUMNS: tuple[ColumnElement[Any], ...] = tuple(runs.c[name] for name in Run.__struct_fields__)
STEP_COLUMNS: tuple[ColumnElement[Any], ...] = tuple(steps.c[name] for name in Step.__struct_fields__)
EVENT_COLUMNS: tuple[ColumnElement[Any], ...] = (events.c.first_seq, events.c.facts)


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
    for name in ("inputs", "outputs", "process_data"):
        if row[name] is not None:
            row[name] = to_json(row[name])
    return row


def step_from(row: tuple[Any, ...]) -> Step:
    """A Step from STEP_COLUMNS."""
    named = dict(zip(Step.__struct_fields__, row, strict=True))
    named["status"] = StepStatus(named["status"])
    for name in ("inputs", "outputs", "process_data"):
        named[name] = from_json(named[name])
    return Step(**named)


def events_from(run_id: str, row: tuple[Any, ...]) -> list[Event]:
    """The events of one row of EVENT_COLUMNS."""
    first_seq, facts = row[0], _facts_decoder.decode(row[1])
    return [
        Event(run_id, first_seq + i, fact.kind, fact.created_at, fact.step, fact.payload)
        for i, fact in enumerate(facts)
    ]


def events_to_json(new: Sequence[Event]) -> str:
    """The facts of one transaction as the column that `events_from` reads."""
    return to_json([_Fact(event.kind, event.created_at, event.step, event.payload) for event in new])
