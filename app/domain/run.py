"""Runs and steps: their statuses, and how an attempt can end.

A run goes from `running` to one of its ends, once; until then it may be `paused` and go on, any number of times. A
step of a worker goes from `ready` to `running` and back, any number of times, then to one of its ends, once. Every
UPDATE that makes such a step names the status that it leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec


class RunStatus(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"  # waits for a person; holds no worker, and its time stands still
    SUCCEEDED = "succeeded"
    PARTIAL_SUCCEEDED = "partial-succeeded"
    FAILED = "failed"
    STOPPED = "stopped"


class StepStatus(StrEnum):
    READY = "ready"  # waits for a worker; a ready row is the outbox of the doorbell
    RUNNING = "running"  # a worker holds its lease
    PAUSED = "paused"  # waits for a person
    SUCCEEDED = "succeeded"
    EXCEPTION = "exception"  # failed, and an error strategy took it from there
    FAILED = "failed"
    STOPPED = "stopped"


_RUNNING, _PAUSED = RunStatus.RUNNING, RunStatus.PAUSED  # looking up an enum's member is a call into Python


def is_terminal(status: RunStatus) -> bool:
    return status is not _RUNNING and status is not _PAUSED


class Task(msgspec.Struct, frozen=True):
    """What was asked: the accepted request."""

    id: str
    run_id: str
    app_id: str
    key_id: str
    user: str
    dialect: str
    response_mode: str
    created_at: float
    traceparent: str | None = None
    priority: int | None = None


class Run(msgspec.Struct, frozen=True):
    """The execution of a workflow for a task. Times are seconds since 1970.

    `error` is for people, `error_code` says the same to programs.
    """

    id: str
    task_id: str
    app_id: str
    workflow_id: str
    user: str
    status: RunStatus
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    error: str | None
    total_steps: int
    exceptions_count: int
    last_seq: int
    created_at: float
    finished_at: float | None = None
    key_id: str = ""
    error_code: str | None = None
    total_tokens: int = 0

    @property
    def elapsed_s(self) -> float:
        return (self.finished_at or self.created_at) - self.created_at


class Step(msgspec.Struct, frozen=True, array_like=True):
    """One node's execution inside a run. `attempt` counts the tries and fences their writes.

    `scope` is where an inner step is: the containers around it, from the outermost on, each as (node id, round from 0).
    `metadata` is Dify's `execution_metadata`.
    Facts hold steps as arrays, to keep them short: new fields go to the end and have a default.
    """

    id: str
    run_id: str
    node_id: str
    kind: str
    title: str
    index: int
    status: StepStatus
    predecessor_node_id: str | None = None
    work_class: str | None = None
    attempt: int = 0
    handle: str | None = None
    inputs: Mapping[str, Any] | None = None
    outputs: Mapping[str, Any] | None = None
    process_data: Mapping[str, Any] | None = None
    error: str | None = None
    error_type: str | None = None
    created_at: float = 0.0
    finished_at: float | None = None
    scope: tuple[tuple[str, int], ...] = ()
    metadata: Mapping[str, Any] | None = None


CALLED_WORKFLOW = "__called_workflow__"
"""Among a step's hidden arguments: the version that its node is of, where that is not its run's."""


WORKER_LOST = "worker_lost"
SERVER_STOPPED = "server_stopped"
NEIGHBOUR_HUNG = "neighbour_hung"
GIVEN_BACK = (WORKER_LOST, SERVER_STOPPED, NEIGHBOUR_HUNG)
"""Why a step was taken from a worker that had not ended it (its `error_type` then)."""


class NewWork(msgspec.Struct, frozen=True):
    """A step for a worker, with the checkpoint that it needs, if any, and the arguments that nobody else is to see."""

    step: Step
    checkpoint: str | None = None
    arguments: Mapping[str, Any] = {}


class Timings(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where an attempt's time went, as its worker measured it, in seconds; together they are the whole attempt."""

    load_s: float = 0.0  # until the checkpoint was in memory; 0 when it was there
    run_s: float = 0.0  # the node's own work
    upload_s: float = 0.0  # until the artifact store had its files


class Succeeded(msgspec.Struct, frozen=True, tag="succeeded"):
    """`handle` names the outgoing edges that are taken: a worker's node may be one that branches."""

    outputs: dict[str, Any]
    process_data: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    handle: str = "source"


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    error: str
    error_type: str
    outputs: dict[str, Any] | None = None
    process_data: dict[str, Any] | None = None


class Retry(msgspec.Struct, frozen=True, tag="retry"):
    """This attempt failed, the next may not: the step goes back to ready while it has attempts left."""

    error: str
    error_type: str


class Stopped(msgspec.Struct, frozen=True, tag="stopped"):
    """The run was stopped, or the attempt lost its lease; nothing is written."""


Outcome = Succeeded | Failed | Retry | Stopped
