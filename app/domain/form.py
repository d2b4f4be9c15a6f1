"""Forms that paused runs wait for."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec


class FormStatus(StrEnum):
    WAITING = "waiting"
    SUBMITTED = "submitted"
    EXPIRED = "expired"  # nobody filled it in in time, or its run has ended without it


class Form(msgspec.Struct, frozen=True):
    """A form of one step. `definition` is what `HumanInput.execute` gave; whoever has the token may fill it in.

    Times are seconds since 1970; it expires by the database's clock.
    """

    id: str
    token: str
    app_id: str
    run_id: str
    step_id: str
    node_id: str
    definition: Mapping[str, Any]
    status: FormStatus
    expires_at: float


class NewForm(msgspec.Struct, frozen=True):
    """A form that comes with its step; it is given `timeout_s` from the commit on."""

    id: str
    token: str
    step_id: str
    node_id: str
    definition: Mapping[str, Any]
    timeout_s: float
