"""What the plan asks of a step, and nothing else."""

from __future__ import annotations

from typing import NamedTuple

from app.domain.run import StepStatus


class StepState(NamedTuple):
    status: StepStatus
    handle: str | None = None
