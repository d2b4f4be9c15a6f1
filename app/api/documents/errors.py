"""`python -m app.api.documents.errors`: writes `docs/errors.md` from `app/errors.py`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from app.errors import AtelierError, answers, sentence

_TOP = """\
# Errors

Written from `app/errors.py` by `make docs`; don't edit it here.

Every error has the same shape, wherever it comes from: Dify's fields first, then what Dify does not tell.

```json
{
  "code": "invalid_param",
  "message": "width must be a multiple of 8 between 64 and 2048, got 65",
  "status": 400,
  "params": "width",
  "retryable": false,
  "request_id": "01a1fd5e-c407-76f8-b724-36f60d706a25",
  "node_id": "paint",
  "node_title": "Paint"
}
```

- `code` stays the same for the same reason: programs go by it. `message` is for people and may be worded anew.
- `params` names the wrong field, where there is one.
- `retryable`: the same request may succeed a little later. With 429 and 503 `Retry-After` says when.
- `request_id` is the answer's `X-Request-Id`: the caller's own, if it sent a decent one. The log's lines carry it.
- `node_id` and `node_title`: the node of the workflow that it concerns, where there is one.

## What a request can be answered with
"""

_RUNS = """\
## How a run can end otherwise than well

A request for a run that was accepted is answered 200 even if the run fails: its `status` is `failed` or `stopped`, its
`error` says why in words, and its `error_code` for programs (`?include=task`). Where a step failed, its `error_type` is
the same, spelled as Dify does (`?include=steps`).

"""

_PROXY = """
## What stands before the server

The nginx of the production form answers in the same shape where no API process did: 503 `service_unavailable`, after
which a run may have been accepted, so ask again with the same `Idempotency-Key` or look for it first; and 413
`request_entity_too_large` above 128 MB.
"""

_FAILURES = (
    ("stopped_by_user", "", "Somebody asked for it."),
    ("deadline_exceeded", "", "`deadline_s` or `Cancel-After` was over."),
    ("run_timeout", "", "It took longer than `ATELIER_RUN_TIMEOUT_S`."),
    ("queue_timeout", "", "A step waited longer for a worker than `ATELIER_QUEUE_TIMEOUT_S`."),
    ("step_timeout", "", "An attempt of a step took longer than `ATELIER_STEP_TIMEOUT_S`."),
    ("too_many_steps", "", "The workflow began more nodes than a run may have."),
    ("gpu_out_of_memory", "yes", "The GPU had too little memory. Ask for a smaller picture, or for fewer (`n`)."),
    ("worker_lost", "yes", "The worker died or hung, as often as a step is tried."),
    ("stalled", "yes", "The step made no progress for `ATELIER_STEP_STALL_S`, as often as a step is tried."),
    ("checkpoint_unavailable", "", "The checkpoint was taken away or damaged after the run had begun."),
    ("invalid_param", "", "A node gave a later one a value that it can't use; the message names the parameter."),
    ("tool_parameter_error", "", "A variable that a tool needs does not exist."),
    ("node_failed", "", "The node could not do its work; the message says why."),
    ("internal", "", "Something broke that should not; the log has more."),
    ("other names", "", "A template's own: the name of Jinja2's or Python's error, as in Dify."),
)


def errors_page() -> str:
    """The whole page."""
    rows = table(
        ("Status", "Code", "What it means, and the way out", "`params`", "Node", "Retryable", "Where"),
        map(_row, answers()),
    )
    failures = ((name if " " in name else f"`{name}`", retried, says) for name, retried, says in _FAILURES)
    runs = "\n".join(table(("`error_code`", "Tried again", "What it means"), failures))
    return "\n".join([_TOP, *rows, "", _RUNS + runs, _PROXY])


def _row(error: type[AtelierError]) -> tuple[str, ...]:
    return (
        str(error.status),
        f"`{error.code}`",
        sentence(error),
        error.field,
        _yes(error.has_node),
        _yes(error.retryable),
        error.where,
    )


def _yes(true: bool) -> str:
    return "yes" if true else ""


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """The lines of a table in Markdown."""
    for row in (head, ("---",) * len(head), *rows):
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else "docs/errors.md").write_text(errors_page())
