"""What `include` adds to a run object, from the run's detail."""

from __future__ import annotations

from typing import Any

from app.api.dify import shapes
from app.api.dify.shapes import ArtifactObject, ProgressObject, RoundObject, StepObject, TaskObject, TimesObject
from app.artifacts.urls import UrlSigner
from app.domain.artifact import Artifact
from app.domain.detail import Asked, Detail, Part, Progress, StepDetail, StepTimes
from app.domain.run import Run, StepStatus
from app.runs.queue_view import Place

_DIGITS = 6  # of a second: a microsecond


def render_parts(detail: Detail, signer: UrlSigner, place: Place | None = None) -> dict[str, Any]:
    """The fields of `RunObject` that the detail's parts fill in."""
    asked_for, fields = detail.parts, dict[str, Any]()
    if Part.STEPS in asked_for:
        fields["steps"] = [_step(each) for each in detail.steps]
    if Part.ARTIFACTS in asked_for:
        nodes = {each.step.id: each.step.node_id for each in detail.steps}
        fields["artifacts"] = [_artifact(made, nodes.get(made.step_id), signer) for made in detail.artifacts]
    if Part.TIMINGS in asked_for:
        fields["timings"] = _times(detail.times)
    if Part.PROGRESS in asked_for:
        fields["progress"] = _progress(detail.progress, place)
    if Part.TASK in asked_for and detail.asked is not None:
        fields["task"] = _task(detail.run, detail.asked)
    return fields


def _step(each: StepDetail) -> StepObject:
    step, work = each.step, each.work
    return StepObject(
        id=step.id,
        node_id=step.node_id,
        title=step.title,
        node_type=step.kind,
        index=step.index,
        status=shapes.QUEUED if step.status is StepStatus.READY else step.status.value,
        attempts=each.attempts,
        worker=work.worker_id if work else None,
        checkpoint=work.checkpoint if work else None,
        seeds=each.seeds,
        error=step.error,
        error_type=step.error_type,
        created_at=step.created_at,
        started_at=each.started_at,
        finished_at=step.finished_at,
        timings=_times(each.times),
        scope=[RoundObject(node_id, number) for node_id, number in step.scope],
    )


def _artifact(made: Artifact, node_id: str | None, signer: UrlSigner) -> ArtifactObject:
    url, expires_at = signer.signed(made.id, made.extension)
    return ArtifactObject(
        id=made.id,
        node_id=node_id,
        step_id=made.step_id,
        filename=made.filename,
        mime_type=made.mime_type,
        size=made.size,
        sha256=made.sha256,
        width=made.width,
        height=made.height,
        seed=made.seed,
        url=url,
        expires_at=expires_at,
        permalink=signer.permalink(made.id),
    )


def _times(times: StepTimes) -> TimesObject:
    return TimesObject(
        queued_s=round(times.queued_s, _DIGITS),
        load_s=_rounded(times.load_s),
        run_s=_rounded(times.run_s),
        upload_s=_rounded(times.upload_s),
        total_s=round(times.total_s, _DIGITS),
    )


def _progress(progress: Progress | None, place: Place | None) -> ProgressObject | None:
    if progress is None:
        return None
    step, steps = progress.step, progress.steps
    return ProgressObject(
        steps_done=progress.steps_done,
        steps_total_known=progress.steps_known,
        node_id=progress.node_id,
        step=step,
        steps=steps,
        percent=round(100 * step / steps, 1) if step is not None and steps else None,
        eta_s=_rounded(progress.eta_s),
        queue_position=place.queue_position if place else None,
        estimated_start=place.estimated_start if place else None,
    )


def _task(run: Run, asked: Asked) -> TaskObject:
    return TaskObject(
        id=run.task_id,
        user=run.user,
        key_id=run.key_id,
        key_name=asked.key_name,
        dialect=asked.dialect,
        response_mode=asked.response_mode,
        priority=asked.priority,
        deadline_s=asked.deadline_s,
        error_code=run.error_code,
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, _DIGITS)
