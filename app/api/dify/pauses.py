"""Pauses and forms in Dify's field names: what a run that waits for a person tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.domain.event import Event, EventKind
from app.domain.run import Run, Step


def waits_for(pause: Mapping[str, Any]) -> dict[str, Any]:
    """The nodes and the forms of a pause; each reason begins with what kind it is."""
    reasons = [{"TYPE": "human_input_required", **reason} for reason in pause.get("reasons", ())]
    return {"paused_nodes": pause.get("paused_nodes", []), "reasons": reasons}


def lasted_s(run: Run, at: float | None) -> float:
    """Seconds from the run's beginning to its pause."""
    return (at or run.created_at) - run.created_at


def run_paused(run: Run, pause: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "workflow_run_id": run.id,
        "paused_nodes": pause.get("paused_nodes", []),
        "outputs": {},
        "reasons": waits_for(pause)["reasons"],
        "status": "paused",
        "created_at": int(run.created_at),
        "elapsed_time": lasted_s(run, pause.get("at")),
        "total_tokens": run.total_tokens,
        "total_steps": run.total_steps,
    }


def form_event(event: Event, step: Step) -> dict[str, Any]:
    told = event.payload or {}
    if event.kind is EventKind.FORM_REQUIRED:
        return told
    head = {"node_id": step.node_id, "node_title": step.title}
    if event.kind is EventKind.FORM_EXPIRED:
        return {**head, "expiration_time": (told.get("form") or {}).get("expiration_time")}
    outputs = dict(told.get("outputs") or {})
    action_id, action_text = outputs.pop("__action_id", None), outputs.pop("__action_value", None)
    content = outputs.pop("__rendered_content", None)
    said = {"rendered_content": content, "action_id": action_id, "action_text": action_text}
    return {**head, **said, "submitted_data": outputs}
