"""What was asked, whatever the dialect."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

ResponseMode = Literal["blocking", "streaming"]


class Caller(msgspec.Struct, frozen=True):
    """Who a key stands for: the key itself and the app that it opens."""

    key_id: str
    app_id: str


class RunRequest(msgspec.Struct, frozen=True):
    """The validated body of a request for a run. `inputs` are still as the caller wrote them."""

    caller: Caller
    inputs: dict[str, Any]
    user: str
    response_mode: ResponseMode = "blocking"
    dialect: str = "dify"
