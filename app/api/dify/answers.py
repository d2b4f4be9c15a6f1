"""The shapes of Dify's answers, field by field, for the documents. The run object's own is in `shapes.py`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from app.domain.request import NAMES
from app.domain.run import RunStatus

Id = Annotated[str, Meta(description="a UUID")]
Status = Annotated[str, Meta(description="how the run stands", extra_json_schema={"enum": list(RunStatus)})]
Seconds = Annotated[int, Meta(description="seconds since 1970")]
TaskId = Annotated[str, Meta(description="what was asked; a run can be stopped by it, too")]
RunId = Annotated[str, Meta(description="the run that it became")]
Location = Annotated[str, Meta(description="where the run can be read, as in the header Location")]


class RunResult(Struct, frozen=True):
    """How a run ended, in Dify's fields."""

    id: RunId
    workflow_id: Annotated[str, Meta(description="the version of the workflow that it ran")]
    status: Status
    outputs: Annotated[dict[str, Any], Meta(description="what the end nodes gave, files with signed URLs")]
    error: Annotated[str | None, Meta(description="why it failed or was stopped")]
    elapsed_time: Annotated[float, Meta(description="seconds from acceptance to end")]
    total_tokens: Annotated[int, Meta(description="what its language models used")]
    total_steps: Annotated[int, Meta(description="nodes begun, each retry counted")]
    created_at: Seconds
    finished_at: Annotated[int | None, Meta(description="seconds since 1970; null until it has ended")]


class BlockingAnswer(Struct, frozen=True):
    """The answer to a blocking call: 200, also for a run that failed."""

    task_id: TaskId
    workflow_run_id: RunId
    data: RunResult


class RunningAnswer(Struct, frozen=True):
    """The answer to a call whose time was over before the run's: the run as it stands, and where to read on."""

    task_id: TaskId
    workflow_run_id: RunId
    data: RunResult
    location: Location


class PausedResult(RunResult, frozen=True, kw_only=True):
    """How a run stands that waits for a person."""

    paused_nodes: Annotated[list[str], Meta(description="the nodes whose forms it waits for")]
    reasons: Annotated[list[dict[str, Any]], Meta(description="the forms; each has a `form_token` that opens it")]


class PausedAnswer(Struct, frozen=True):
    """The answer to a blocking call for a run that waits for a person."""

    task_id: TaskId
    workflow_run_id: RunId
    data: PausedResult
    location: Location


class StopAnswer(Struct, frozen=True):
    """Dify's `result`, and how the run stands now: an ended run keeps its end."""

    result: Literal["success"]
    workflow_run_id: RunId
    task_id: TaskId
    status: Status


class LoggedRun(Struct, frozen=True):
    """A run in the log."""

    id: RunId
    version: Annotated[str, Meta(description="the version of the workflow that it ran")]
    status: Status
    triggered_from: str
    error: str | None
    elapsed_time: Annotated[float, Meta(description="seconds from acceptance to end")]
    total_tokens: int
    total_steps: int
    created_at: Seconds
    finished_at: int | None
    exceptions_count: int


class LogUser(Struct, frozen=True):
    """The end-user of a run."""

    id: Id
    type: str
    is_anonymous: bool
    session_id: Annotated[str, Meta(description="the user that the request named")]


class LogEntry(Struct, frozen=True):
    """What was asked, and the run that it became."""

    id: TaskId
    workflow_run: LoggedRun
    details: None
    created_from: str
    created_by_role: str
    created_by_account: None
    created_by_end_user: LogUser
    created_at: Seconds
    dialect: Annotated[str, Meta(description="in which API it was asked for", examples=list(NAMES))]


class LogPage(Struct, frozen=True):
    """A page of the log, the latest run first."""

    page: int
    limit: int
    total: Annotated[int, Meta(description="how many runs match")]
    has_more: bool
    data: list[LogEntry]
