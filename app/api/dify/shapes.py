"""The shapes of answers about runs, described field by field: what is rendered, and what the documents show."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from app.domain.detail import Part
from app.domain.request import NAMES
from app.domain.run import RunStatus, StepStatus
from app.errors import InvalidParam

Id = Annotated[str, Meta(description="A UUID.")]
QueuePlace = Annotated[int | None, Meta(description="1: next to be taken by a worker; null: it does not wait.")]
EstimatedStart = Annotated[
    int | None,
    Meta(description="When that may be, in seconds since 1970; null: it does not wait, or nothing is known."),
]

QUEUED = "queued"  # what callers read for a step that is ready and waits for a worker
STEP_STATUSES = [QUEUED if status is StepStatus.READY else status.value for status in StepStatus]
_PARTS = ", ".join(part.value for part in Part)


class RunQuery(Struct, frozen=True):
    """The query of a run's detail."""

    include: Annotated[
        str,
        Meta(
            description=f"What the run object is to show besides Dify's own fields, separated by commas: {_PARTS}.",
            examples=["steps,artifacts,timings,progress"],
        ),
    ] = ""
    wait: Annotated[
        float,
        Meta(
            ge=0,
            le=60,
            description="Seconds to wait for news: until the run is not as If-None-Match names it, or without that, "
            "has ended.",
        ),
    ] = 0.0


def read_parts(include: str) -> frozenset[Part]:
    """The words of `include`. Raises InvalidParam for one that is not known."""
    words = [word.strip() for word in include.split(",")]
    try:
        return frozenset(Part(word) for word in words if word)
    except ValueError:
        unknown = next(word for word in words if word and word not in list(Part))
        raise InvalidParam(f"include: '{unknown[:40]}' is not known; known are {_PARTS}", params="include") from None


class TimesObject(Struct, frozen=True):
    """Where the time went, in seconds. What a worker measures is null until its attempt has ended."""

    queued_s: Annotated[float, Meta(description="Waiting for a worker, in the latest attempt.")]
    load_s: Annotated[float | None, Meta(description="Until the checkpoint was in memory; 0 when it was there.")]
    run_s: Annotated[float | None, Meta(description="The node's own work: denoising and decoding of a picture.")]
    upload_s: Annotated[float | None, Meta(description="Until the pictures were stored.")]
    total_s: Annotated[float, Meta(description="From the beginning to the end or to now, lost attempts included.")]


class RoundObject(Struct, frozen=True):
    """A round of an iteration or a loop, or the one of an app that is called."""

    node_id: Annotated[str, Meta(description="The node that goes round.")]
    round: Annotated[int, Meta(description="Which round, from 0.")]


class StepObject(Struct, frozen=True):
    """One node's execution in a run."""

    id: Id
    node_id: Annotated[str, Meta(description="The node's id in the workflow's document.")]
    title: Annotated[str, Meta(description="The node's title in the workflow's document.")]
    node_type: Annotated[str, Meta(description="The kind of the node.", examples=["start", "tool", "end"])]
    index: Annotated[int, Meta(description="1 for the first step of the run, and so on.")]
    status: Annotated[
        str,
        Meta(
            description="`queued` waits for a worker; `exception` failed, and the run went on by its error branch.",
            extra_json_schema={"enum": STEP_STATUSES},
        ),
    ]
    attempts: Annotated[int, Meta(description="How often it was begun; above 1 after a lost worker or a failed try.")]
    worker: Annotated[str | None, Meta(description="Id of the worker that holds it, or held it at its end.")]
    checkpoint: Annotated[str | None, Meta(description="The checkpoint that it needs.")]
    seeds: Annotated[list[int] | None, Meta(description="The seed of each of its pictures.")]
    error: Annotated[str | None, Meta(description="Why it failed; while it goes on, why its last attempt was lost.")]
    error_type: Annotated[str | None, Meta(description="The same for programs.", examples=["worker_lost"])]
    created_at: Annotated[float, Meta(description="When the run came to it, in seconds since 1970.")]
    started_at: Annotated[float | None, Meta(description="When its latest attempt was begun; null while it waits.")]
    finished_at: Annotated[float | None, Meta(description="When it ended; null until then.")]
    timings: Annotated[TimesObject, Meta(description="Where its time went.")]
    scope: Annotated[list[RoundObject], Meta(description="The rounds that it is in, the outermost first.")] = []


class ArtifactObject(Struct, frozen=True):
    """A file that a run made."""

    id: Id
    node_id: Annotated[str | None, Meta(description="The node that made it.")]
    step_id: Annotated[str, Meta(description="The step that made it.")]
    filename: Annotated[str, Meta(description="The name under which it is saved.")]
    mime_type: Annotated[str, Meta(description="What it is.", examples=["image/png"])]
    size: Annotated[int, Meta(description="Bytes.")]
    sha256: Annotated[str, Meta(description="Of the content, in hex.")]
    width: Annotated[int | None, Meta(description="Pixels.")]
    height: Annotated[int | None, Meta(description="Pixels.")]
    seed: Annotated[int | None, Meta(description="The seed that gives this picture again, alone.")]
    url: Annotated[str, Meta(description="Where anybody can fetch it until `expires_at`; signed anew at each reading.")]
    expires_at: Annotated[int, Meta(description="When the URL's signature ends, in seconds since 1970.")]
    permalink: Annotated[
        str, Meta(description="Where a key of the app with the scope `read` is always sent to a fresh URL.")
    ]


class ProgressObject(Struct, frozen=True):
    """How far a run under way has come."""

    steps_done: Annotated[int, Meta(description="Steps that have ended.")]
    steps_total_known: Annotated[int, Meta(description="Steps that have begun or wait; a branch may bring more.")]
    node_id: Annotated[str | None, Meta(description="The node that runs, or waits for a worker.")]
    step: Annotated[int | None, Meta(description="How many denoising steps that node has done.")]
    steps: Annotated[int | None, Meta(description="How many it has to do; null while it is not known.")]
    percent: Annotated[float | None, Meta(description="The same as a percentage.")]
    eta_s: Annotated[float | None, Meta(description="Seconds until that node is done, by the worker's own pace.")]
    queue_position: QueuePlace
    estimated_start: EstimatedStart


_DIALECT = Meta(description="In which API it was asked for.", examples=list(NAMES))


class TaskObject(Struct, frozen=True):
    """What was asked, by whom."""

    id: Id
    user: Annotated[str, Meta(description="The end-user that the request named.")]
    key_id: Annotated[str, Meta(description="The key that made the run.")]
    key_name: Annotated[str | None, Meta(description="The key's name as it is now; null when it is gone.")]
    dialect: Annotated[str, _DIALECT]
    response_mode: Annotated[str, Meta(description="How it was asked: blocking, streaming or async.")]
    priority: Annotated[int | None, Meta(description="The priority that was asked for; null: the key's own.")]
    deadline_s: Annotated[float | None, Meta(description="How long the run may take, if the request said so.")]
    error_code: Annotated[str | None, Meta(description="The run's error for programs.", examples=["deadline_exceeded"])]


class RunObject(Struct, frozen=True):
    """A run: the first eleven fields are Dify's, always; the others are there when `include` names them.

    Lists tell the dialect besides.
    """

    id: Id
    workflow_id: Annotated[str, Meta(description="The version of the workflow that it runs.")]
    status: Annotated[str, Meta(extra_json_schema={"enum": [status.value for status in RunStatus]})]
    inputs: Annotated[str, Meta(description="The inputs and system variables, as a string of JSON.")]
    outputs: Annotated[dict[str, Any], Meta(description="What the end nodes gave; files with freshly signed URLs.")]
    error: Annotated[str | None, Meta(description="Why it failed or was stopped.")]
    total_steps: Annotated[int, Meta(description="Nodes begun, each retry counted.")]
    total_tokens: Annotated[int, Meta(description="What its language models used.")]
    created_at: Annotated[int, Meta(description="Seconds since 1970.")]
    finished_at: Annotated[int | None, Meta(description="Seconds since 1970; null until it has ended.")]
    elapsed_time: Annotated[float, Meta(description="Seconds from acceptance to end; 0 until it has ended.")]
    steps: Annotated[
        list[StepObject] | UnsetType, Meta(description="The nodes that the run has come to, in their order.")
    ] = UNSET
    artifacts: Annotated[list[ArtifactObject] | UnsetType, Meta(description="The files that it made.")] = UNSET
    timings: Annotated[TimesObject | UnsetType, Meta(description="The sums over the steps, as far as known.")] = UNSET
    progress: Annotated[
        ProgressObject | UnsetType | None, Meta(description="How far it is; null once it has ended.")
    ] = UNSET
    task: Annotated[TaskObject | UnsetType, Meta(description="What was asked, and by whom.")] = UNSET
    dialect: Annotated[str | UnsetType, _DIALECT] = UNSET


class RunPage(Struct, frozen=True):
    """A page of runs, the latest first."""

    limit: Annotated[int, Meta(description="The most runs of a page.")]
    has_more: bool
    next_cursor: Annotated[str | None, Meta(description="The `cursor` of the next page; null on the last.")]
    data: list[RunObject]


class ToldRun(RunObject, frozen=True, kw_only=True):
    """What webhooks are told of a run: everything."""

    task_id: Id
    error_code: Annotated[str | None, Meta(description="Why it failed or was stopped, for programs.")]


class AcceptedRun(RunObject, frozen=True, kw_only=True):
    """202: a run that goes on without its caller."""

    task_id: Id
    location: Annotated[str, Meta(description="Where the run can be read.")]
    queue_position: QueuePlace
    estimated_start: EstimatedStart
