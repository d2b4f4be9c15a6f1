"""Iterations and loops as Dify streams them: their own events, named by the node, and where an inner node is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from app.api.answer import seconds
from app.domain.event import Event, EventKind
from app.domain.run import Step, StepStatus
from app.runs.scopes import CALLED_BY

KINDS = frozenset({"iteration", "loop"})
ROUND_EVENTS = frozenset({EventKind.ROUNDS_STARTED, EventKind.ROUND_STARTED, EventKind.ROUND_FINISHED})

Render = Callable[[Any], Any]
"""A value with every file as Dify shows it."""


def place(step: Step) -> dict[str, Any]:
    """Which iteration and which loop the step is in."""
    metadata = step.metadata or {}
    return {"iteration_id": metadata.get("iteration_id"), "loop_id": metadata.get("loop_id")}


def is_inside_call(event: Event) -> bool:
    """Whether it happened in an app that the run's own calls: Dify tells of the call alone."""
    told = event.payload or {}
    return CALLED_BY in told or (event.step is not None and CALLED_BY in (event.step.metadata or {}))


def round_event(event: Event, render: Render) -> tuple[str, dict[str, Any]] | None:
    """(name, fields) of a fact of a container's rounds; None for one that Dify does not tell.

    An iteration's rounds are told when they begin, a loop's when they have ended and another may follow.
    """
    told = event.payload or {}
    if event.kind is EventKind.ROUNDS_STARTED and event.step is not None and event.step.kind in KINDS:
        return _started(event.step, told, render)
    if event.kind is EventKind.ROUND_STARTED and told["kind"] == "iteration":
        return "iteration_next", _next(told, told["round"])
    if event.kind is EventKind.ROUND_FINISHED and told["kind"] == "loop" and told["goes_on"]:
        return "loop_next", _next(told, told["round"] + 1) | {"pre_loop_output": render(told["left"])}
    return None


def completed(step: Step, render: Render) -> tuple[str, dict[str, Any]]:
    """(name, fields) of a container's end."""
    inputs, metadata = step.inputs or {}, step.metadata or {}
    fields = _head(step) | {
        "outputs": None if step.outputs is None else render(step.outputs),
        "outputs_truncated": False,
        "created_at": int(step.created_at),
        "extras": {},
        "inputs": render(inputs),
        "inputs_truncated": False,
        "status": StepStatus.SUCCEEDED.value if step.status is StepStatus.SUCCEEDED else StepStatus.FAILED.value,
        "error": step.error,
        "elapsed_time": (step.finished_at or step.created_at) - step.created_at,
        "total_tokens": metadata.get("total_tokens", 0),
        "execution_metadata": render(metadata),
        "finished_at": seconds(step.finished_at),
        "steps": _steps(step, inputs, metadata),
    }
    return f"{step.kind}_completed", fields


def _started(step: Step, told: Mapping[str, Any], render: Render) -> tuple[str, dict[str, Any]]:
    fields = _head(step) | {
        "created_at": int(step.created_at),
        "extras": {},
        "metadata": {f"{step.kind}_length": told["length"]},
        "inputs": render(step.inputs or {}),
        "inputs_truncated": False,
    }
    return f"{step.kind}_started", fields


def _next(told: Mapping[str, Any], index: int) -> dict[str, Any]:
    node_id = told["node_id"]
    named = {"id": node_id, "node_id": node_id, "node_type": told["kind"], "title": told["title"]}
    return named | {"index": index, "created_at": int(told["at"]), "extras": {}}


def _head(step: Step) -> dict[str, Any]:
    return {"id": step.node_id, "node_id": step.node_id, "node_type": step.kind, "title": step.title}


def _steps(step: Step, inputs: Mapping[str, Any], metadata: Mapping[str, Any]) -> int:
    """How many rounds it was to have; none for a loop whose condition held before the first."""
    if step.kind == "iteration":
        return len(inputs.get("iterator_selector") or ())
    has_begun = metadata.get("loop_duration_map") or metadata.get("completed_reason") != "loop_break"
    return inputs.get("loop_count", 0) if has_begun else 0
