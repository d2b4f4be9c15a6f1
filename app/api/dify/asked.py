"""Requests in Dify's field names."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from app.api.body import read_deadline, read_priority, shortest
from app.api.operation import read_value
from app.api.run_headers import NO_HEADERS, RunHeaders, read_idempotency_key
from app.domain.request import Caller, ResponseMode, RunRequest, WebhookEvent
from app.errors import BadRequest, InvalidParam
from app.runs.webhooks import check_webhook
from app.settings import Settings

_MODES = (None, "", "blocking", "streaming", "async")
_CHECKED = frozenset({"inputs", "user", "response_mode"})


class RunBody(msgspec.Struct, frozen=True):
    """What is to be run, for whom, and how the answer is to come."""

    inputs: Annotated[
        dict[str, Any],
        Meta(description="The workflow's variables by name.", examples=[{"prompt": "a red circle"}]),
    ]
    user: Annotated[str | int | float, Meta(description="Your name for the end-user; not empty.", examples=["abc-123"])]
    response_mode: Annotated[
        Literal["blocking", "streaming", "async", ""] | None,
        Meta(description="blocking: the end of the run; streaming: its events; async: 202 and its ids at once."),
    ] = None
    deadline_s: Annotated[
        Annotated[float, Meta(ge=1, le=1e9)] | None,
        Meta(description="The run is stopped after so many seconds, waiting included.", examples=[30]),
    ] = None
    webhook_url: Annotated[
        str | None,
        Meta(description="Where this run's events are to be posted.", examples=["https://example.com/atelier"]),
    ] = None
    webhook_events: Annotated[
        list[WebhookEvent] | None, Meta(description="Which of them; without this: run.finished.")
    ] = None
    files: Annotated[
        list[dict[str, Any]] | None,
        Meta(description="Files of the whole app (sys.files); better: variables of the type file."),
    ] = None


class UserBody(msgspec.Struct, frozen=True):
    """Who asks."""

    user: Annotated[str | int | float, Meta(description="The end-user, as in the run.", examples=["abc-123"])]


def read_user(body: dict[str, Any]) -> str:
    """The end-user of a body. Raises InvalidParam when there is none."""
    user = body.get("user")
    if isinstance(user, str):
        user = user.replace("\0", "")  # PostgreSQL stores no such character, as in inputs
    if isinstance(user, int | float) and not isinstance(user, bool) and user:
        user = str(user)
    if not isinstance(user, str) or not user.strip():
        raise InvalidParam("Arg user must be provided.", params="user")
    return user


def read_run_request(body: dict[str, Any], headers: RunHeaders, caller: Caller, settings: Settings) -> RunRequest:
    """The request of `POST /workflows/run`. Raises InvalidParam with the field."""
    user = read_user(body)
    if "inputs" not in body:
        raise InvalidParam("inputs is required: an object with the workflow's variables", params="inputs")
    if not isinstance(body["inputs"], dict):
        raise InvalidParam("inputs must be an object with the workflow's variables", params="inputs")
    if body.get("response_mode") not in _MODES:
        raise InvalidParam("response_mode must be 'blocking', 'streaming' or 'async'", params="response_mode")
    if headers is NO_HEADERS and body.keys() <= _CHECKED:  # most bring no more, and all of it has been looked at
        return RunRequest(caller, body["inputs"], user, body.get("response_mode") or "blocking")
    read = read_value(body, RunBody)
    mode: ResponseMode = read.response_mode or "blocking"
    if headers.is_async and mode == "blocking":
        mode = "async"
    webhook = None
    if read.webhook_url is not None:
        webhook = check_webhook(read.webhook_url, read.webhook_events, settings)
    elif read.webhook_events is not None:
        raise InvalidParam("webhook_events is of no use without webhook_url", params="webhook_url")
    return RunRequest(
        caller,
        read.inputs,
        user,
        mode,
        idempotency_key=read_idempotency_key(headers.idempotency_key),
        priority=read_priority(headers.x_priority),
        deadline_s=shortest(read_deadline(headers.cancel_after), read.deadline_s),
        webhook=webhook,
        files=tuple(read.files or ()),
    )


def read_version_id(text: str) -> str:
    """The id of a workflow's version, from a path. Raises BadRequest."""
    try:
        return str(UUID(text))
    except ValueError:
        raise BadRequest(f"Invalid workflow_id format: '{text[:100]}'. It is a UUID, as runs tell it.") from None
