"""What was asked, whatever the dialect."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

import msgspec

ResponseMode = Literal["blocking", "streaming", "async"]
Dialect = Literal["dify", "openai", "ollama", "llamago", "allm"]


NAMES: dict[str, str] = {
    "dify": "Dify",
    "openai": "OpenAI",
    "ollama": "Ollama",
    "llamago": "llama.go",
    "allm": "ALLM",
}
"""What people call the dialects."""


class Scope(StrEnum):
    """What a key may do."""

    RUN = "run"  # start runs
    READ = "read"  # see runs, their events and the app's pages
    STOP = "stop"  # stop runs
    FILES = "files"  # upload files
    CHECKPOINTS = "checkpoints"  # bring, send away and delete checkpoints, which all apps share
    ADMIN = "admin"  # keys and webhooks of the app


CALLER_SCOPES = frozenset({Scope.RUN, Scope.READ, Scope.STOP, Scope.FILES})
"""What a key may do that was made without a word about it."""


class Caller(msgspec.Struct, frozen=True):
    """Who a key stands for: the key itself, the app that it opens, and what it may do. A limit of 0 is none.

    `max_active`: runs under way at once; `max_queued`: runs that wait for a worker. `app_max_active` is the app's.
    `app_webhooks`: the app has webhooks, so that accepting a run may have somebody to tell.
    """

    key_id: str
    app_id: str
    name: str = ""
    scopes: frozenset[Scope] = CALLER_SCOPES
    priority: int = 0
    max_active: int = 0
    max_queued: int = 0
    app_max_active: int = 0
    app_webhooks: bool = False


class WebhookEvent(StrEnum):
    """What a webhook can be told of. Every run that ends tells `FINISHED` and one of the last three."""

    STARTED = "run.started"
    FINISHED = "run.finished"
    SUCCEEDED = "run.succeeded"
    FAILED = "run.failed"
    STOPPED = "run.stopped"


class Webhook(msgspec.Struct, frozen=True):
    """Where a run's events are to be posted. `host` is the URL's."""

    url: str
    events: tuple[WebhookEvent, ...] = (WebhookEvent.FINISHED,)
    host: str = ""


class RunRequest(msgspec.Struct, frozen=True):
    """The validated body of a request for a run. `inputs` are still as the caller wrote them.

    `priority` is what was asked for; what it gets is never above its key's. `deadline_s`: how long the run may take,
    waiting included, before it is stopped. `files` are those of the whole app, as the caller wrote them. `workflow_id`:
    the version that is to be run; None: the app's current one. `shipped`: the name of a document that ships, which is
    run in its place. `told`: a digest of what the caller wrote, where the inputs differ each time, as the ids of new
    uploads do.
    """

    caller: Caller
    inputs: dict[str, Any]
    user: str
    response_mode: ResponseMode = "blocking"
    dialect: Dialect = "dify"
    idempotency_key: str | None = None
    priority: int | None = None
    deadline_s: float | None = None
    webhook: Webhook | None = None
    files: tuple[dict[str, Any], ...] = ()
    workflow_id: str | None = None
    shipped: str = ""
    told: str = ""

    @property
    def granted_priority(self) -> int | None:
        """None: the key's own."""
        return None if self.priority is None else min(self.priority, self.caller.priority)
