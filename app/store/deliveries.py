"""The outbox of the webhooks and their log: what is to be sent, who is sending it, and how that went.

A delivery is written by the transaction that makes its event true, so it is lost with it or not at all. Whoever sends
one holds it by a lease; `attempts` is the fence. A sender that dies leaves a lease that runs out, and the delivery is
sent again under the same id.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec
from sqlalchemy import (
    Double,
    String,
    Text,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    union_all,
    update,
)

from app.domain.request import WebhookEvent
from app.domain.run import Run, RunStatus, is_terminal
from app.store.engine import Row, Tx
from app.store.schema import deliveries, new_delivery_id, now_s, run_webhooks, webhooks

State = Literal["pending", "sending", "delivered", "failed"]

MOST_BUSY_HOSTS = 4
_PAGE = 64
_ENDED = {
    RunStatus.SUCCEEDED: WebhookEvent.SUCCEEDED,
    RunStatus.PARTIAL_SUCCEEDED: WebhookEvent.SUCCEEDED,
    RunStatus.FAILED: WebhookEvent.FAILED,
    RunStatus.STOPPED: WebhookEvent.STOPPED,
}


class Delivery(msgspec.Struct, frozen=True):
    """One event on its way to one receiver, as the log shows it. Times are seconds since 1970.

    `attempts` have begun, the last at `last_at`; the next is due at `next_at`, unless it is over.
    """

    id: str
    app_id: str
    run_id: str
    webhook_id: str | None
    url: str
    event: str
    state: State
    attempts: int
    next_at: float | None
    last_at: float | None
    last_status: int | None
    last_error: str | None
    created_at: float
    delivered_at: float | None


class Due(msgspec.Struct, frozen=True):
    """A delivery that may be claimed in `wait_s`; at once when that is not above 0."""

    id: str
    host: str
    attempts: int
    wait_s: float


class Query(msgspec.Struct, frozen=True):
    """Which deliveries of an app a page of the log shows; `after` is the last id of the page before."""

    limit: int = 20
    run_id: str | None = None
    state: State | None = None
    after: str | None = None


_told = union_all(
    *(select(cast(bindparam(name), Text).label("event")) for name in ("event_1", "event_2", "event_3"))
).subquery()
_hooks = union_all(
    select(webhooks.c.id.label("webhook_id"), webhooks.c.url, webhooks.c.host, webhooks.c.events).where(
        webhooks.c.app_id == bindparam("of_app"), webhooks.c.disabled_at.is_(None)
    ),
    select(cast(null(), String), run_webhooks.c.url, run_webhooks.c.host, run_webhooks.c.events).where(
        run_webhooks.c.run_id == bindparam("of_run")
    ),
).subquery()
_comma = literal_column("','", String)
_percent = literal_column("'%,'", String)
_wanted = (_comma + _hooks.c.events + _comma).like(_percent + _told.c.event + literal_column("',%'", String))
_tell = insert(deliveries).from_select(
    ["id", "app_id", "run_id", "webhook_id", "url", "host", "event", "state", "attempts", "next_at", "created_at"],
    select(
        new_delivery_id(),
        cast(bindparam("of_app"), String),
        cast(bindparam("of_run"), String),
        _hooks.c.webhook_id,
        _hooks.c.url,
        _hooks.c.host,
        _told.c.event,
        literal_column("'pending'", String),
        literal_column("0"),
        now_s(),
        now_s(),
    ).join_from(_hooks, _told, _wanted),
    include_defaults=False,
)
# A subquery of its own: PostgreSQL looks at a clock once, so it can begin in the index there.
_soon = select(now_s() + bindparam("ahead_s")).scalar_subquery()
_BUSY = tuple(f"busy_{number}" for number in range(MOST_BUSY_HOSTS))
_due = (
    select(deliveries.c.id, deliveries.c.host, deliveries.c.attempts, deliveries.c.next_at - now_s())
    .where(
        deliveries.c.next_at.is_not(None),
        deliveries.c.next_at <= _soon,
        *(deliveries.c.host != bindparam(name) for name in _BUSY),
    )
    .order_by(deliveries.c.next_at)
    .limit(_PAGE)
)
_COLUMNS = tuple(deliveries.c[name] for name in Delivery.__struct_fields__)
_claim = (
    update(deliveries)
    .where(
        deliveries.c.id == bindparam("of_id"),
        deliveries.c.attempts == bindparam("seen"),
        deliveries.c.next_at <= now_s(),
    )
    .values(
        state="sending", attempts=deliveries.c.attempts + 1, next_at=now_s() + bindparam("lease_s"), last_at=now_s()
    )
    .returning(*_COLUMNS)
)
_release = (
    update(deliveries)
    .where(deliveries.c.next_at.is_not(None), deliveries.c.state == "sending")
    .values(state="pending", next_at=now_s())
)
_settle = (
    update(deliveries)
    .where(
        deliveries.c.id == bindparam("of_id"),
        deliveries.c.state == "sending",
        deliveries.c.attempts == bindparam("held"),
    )
    .values(
        state=bindparam("new_state"),
        next_at=now_s() + cast(bindparam("delay_s"), Double),  # null when there is no next
        last_status=bindparam("status"),
        last_error=bindparam("error"),
        delivered_at=case((cast(bindparam("new_state"), String) == "delivered", now_s()), else_=None),
    )
)
_by_id = select(*_COLUMNS).where(deliveries.c.id == bindparam("of_id"), deliveries.c.app_id == bindparam("of_app"))
_again = (
    update(deliveries)
    .where(
        deliveries.c.id == bindparam("of_id"),
        deliveries.c.app_id == bindparam("of_app"),
        deliveries.c.state != "sending",
        or_(
            deliveries.c.webhook_id.is_(None),
            deliveries.c.webhook_id.in_(select(webhooks.c.id).where(webhooks.c.disabled_at.is_(None))),
        ),
    )
    .values(state="pending", next_at=now_s(), delivered_at=None)
)
_last = deliveries.alias("last")
_last_at = select(_last.c.created_at).where(_last.c.id == bindparam("after")).scalar_subquery()
_state = deliveries.c.state == func.coalesce(cast(bindparam("state"), String), deliveries.c.state)
_newest = (
    select(*_COLUMNS)
    .where(_state)
    .order_by(deliveries.c.created_at.desc(), deliveries.c.id.desc())
    .limit(bindparam("most"))
)
_after = (
    deliveries.c.created_at <= _last_at,
    or_(deliveries.c.created_at < _last_at, deliveries.c.id < bindparam("after")),
)
_log = _newest.where(deliveries.c.app_id == bindparam("app_id"))
# Written so that SQLite does not walk through all of the app's: a run has few.
_of_app = deliveries.c.app_id + literal_column("''", String) == bindparam("app_id")
_log_of_run = _newest.where(deliveries.c.run_id == bindparam("run_id"), _of_app)
_log_after, _log_of_run_after = _log.where(*_after), _log_of_run.where(*_after)
_oldest = (
    select(deliveries.c.id)
    .where(deliveries.c.created_at < now_s() - bindparam("older_s"), deliveries.c.next_at.is_(None))
    .order_by(deliveries.c.created_at)
    .limit(bindparam("most"))
)
_forget = delete(deliveries).where(deliveries.c.id.in_(_oldest))


def tell(tx: Tx, run: Run, *, started: bool = False) -> None:
    """Writes a delivery for every webhook that wants to hear of what this transaction makes true of the run.

    `started`: that it has been accepted. That it has ended is seen from its status. One statement, whoever listens.
    """
    end = _ENDED[run.status].value if is_terminal(run.status) else None
    events = {
        "event_1": WebhookEvent.STARTED.value if started else None,
        "event_2": WebhookEvent.FINISHED.value if end else None,
        "event_3": end,
    }
    tx.put(_tell, events | {"of_app": run.app_id, "of_run": run.id})


def due(tx: Tx, ahead_s: float, busy_hosts: Iterable[str]) -> list[Due]:
    """What is to be sent now or within `ahead_s`, the first due first, but nothing for the busy hosts; at most 64."""
    hosts = [*busy_hosts, *[""] * MOST_BUSY_HOSTS][:MOST_BUSY_HOSTS]
    rows = tx.rows(_due, {"ahead_s": ahead_s} | dict(zip(_BUSY, hosts, strict=True)))
    return [Due(*row) for row in rows]


def claim(tx: Tx, found: Due, lease_s: float) -> Delivery | None:
    """Gives the delivery to whoever calls, for `lease_s`; None when somebody else has it."""
    rows = tx.rows(_claim, {"of_id": found.id, "seen": found.attempts, "lease_s": lease_s})
    return _delivery(rows[0]) if rows else None


def release(tx: Tx) -> int:
    """Takes every lease back: for a server that knows itself alone, at its start. How many it were."""
    return tx.run(_release)


def settle(
    tx: Tx, held: Delivery, state: State, status: int | None, error: str | None, delay_s: float | None = None
) -> bool:
    """Writes how an attempt went; `delay_s` until the next, if there is one. False: the lease had run out."""
    values = {"new_state": state, "delay_s": delay_s, "status": status, "error": error}
    return tx.run(_settle, values | {"of_id": held.id, "held": held.attempts}) > 0


def find(tx: Tx, app_id: str, delivery_id: str) -> Delivery | None:
    row = tx.row(_by_id, {"of_id": delivery_id, "of_app": app_id})
    return _delivery(row) if row else None


def send_again(tx: Tx, app_id: str, delivery_id: str) -> bool:
    """Makes the delivery due at once. False when it is being sent, or its webhook is no more."""
    return tx.run(_again, {"of_id": delivery_id, "of_app": app_id}) > 0


def page(tx: Tx, app_id: str, query: Query) -> list[Delivery]:
    """The app's deliveries, the newest first."""
    values = {
        "app_id": app_id,
        "run_id": query.run_id,
        "state": query.state,
        "after": query.after,
        "most": query.limit,
    }
    if query.run_id is not None:
        statement = _log_of_run if query.after is None else _log_of_run_after
    else:
        statement = _log if query.after is None else _log_after
    return [_delivery(row) for row in tx.rows(statement, values)]


def forget(tx: Tx, older_s: float, most: int) -> int:
    """Deletes what is over and was written longer ago; returns how many, at most so many at once."""
    return tx.run(_forget, {"older_s": older_s, "most": most})


def _delivery(row: Row) -> Delivery:
    return Delivery(*row)
