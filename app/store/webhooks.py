"""Webhooks: those of an app, those that requests brought for their own runs, and the secrets that sign for an app."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, func, insert, select, update

from app.domain.request import Webhook, WebhookEvent
from app.store import accounts
from app.store.engine import Tx
from app.store.schema import apps, deliveries, now_s, run_webhooks, runs, webhooks


class AppWebhook(msgspec.Struct, frozen=True):
    """A webhook of an app. Nothing is sent to a disabled one: its receiver said that it is gone."""

    id: str
    url: str
    events: tuple[WebhookEvent, ...]
    created_at: float
    disabled_at: float | None = None


class Secrets(msgspec.Struct, frozen=True):
    """What signs an app's deliveries; `old` signs too until `old_until`, in seconds since 1970."""

    current: str
    old: str | None = None
    old_until: float | None = None


_insert_webhook = insert(webhooks).values(
    {name: bindparam(name) for name in ("id", "app_id", "url", "host", "events", "created_at")}
)
_insert_run_webhook = insert(run_webhooks)
_count = select(func.count()).select_from(webhooks).where(webhooks.c.app_id == bindparam("app_id"))
_of_app = (
    select(webhooks.c.id, webhooks.c.url, webhooks.c.events, webhooks.c.created_at, webhooks.c.disabled_at)
    .where(webhooks.c.app_id == bindparam("app_id"))
    .order_by(webhooks.c.created_at, webhooks.c.id)
)
_delete = delete(webhooks).where(webhooks.c.id == bindparam("of_id"), webhooks.c.app_id == bindparam("of_app"))
_disable = update(webhooks).where(webhooks.c.id == bindparam("of_id")).values(disabled_at=now_s())
_delete_run_webhook = delete(run_webhooks).where(run_webhooks.c.run_id == bindparam("of_run"))
_open = deliveries.c.next_at.is_not(None)
_drop: dict[str, Any] = {"state": "failed", "next_at": None, "last_error": bindparam("why")}
_drop_of_webhook = update(deliveries).where(_open, deliveries.c.webhook_id == bindparam("of_id")).values(_drop)
_drop_of_run = (
    update(deliveries)
    .where(_open, deliveries.c.run_id == bindparam("of_run"), deliveries.c.webhook_id.is_(None))
    .values(_drop)
)
_secrets = select(
    apps.c.webhook_secret, apps.c.webhook_old_secret, apps.c.webhook_old_until, apps.c.webhook_old_until > now_s()
).where(apps.c.id == bindparam("app_id"))
_make_secret = (
    update(apps)
    .where(apps.c.id == bindparam("of_app"), apps.c.webhook_secret.is_(None))
    .values(webhook_secret=bindparam("new_secret"))
)
_rotate_secret = (
    update(apps)
    .where(apps.c.id == bindparam("of_app"))
    .values(
        webhook_old_secret=apps.c.webhook_secret,
        webhook_old_until=now_s() + bindparam("overlap_s"),
        webhook_secret=bindparam("new_secret"),
    )
)
_outlived = (
    select(run_webhooks.c.run_id)
    .join(runs, runs.c.id == run_webhooks.c.run_id)
    .where(runs.c.finished_at < now_s() - bindparam("older_s"))
    .order_by(run_webhooks.c.run_id)
    .limit(bindparam("most"))
)
_forget = delete(run_webhooks).where(run_webhooks.c.run_id.in_(_outlived))


def insert_webhook(tx: Tx, webhook_id: str, app_id: str, webhook: Webhook, now: float) -> None:
    """Adds a webhook; what processes remember of its app is out of date with this commit."""
    row = _row(webhook) | {"id": webhook_id, "app_id": app_id, "created_at": now}
    tx.put(_insert_webhook, row)
    accounts.raise_revision(tx)


def insert_run_webhook(tx: Tx, run_id: str, webhook: Webhook) -> None:
    """Keeps the webhook that a request brought until its run has ended, and a while longer."""
    tx.put(_insert_run_webhook, _row(webhook) | {"run_id": run_id})


def _row(webhook: Webhook) -> dict[str, object]:
    return {"url": webhook.url, "host": webhook.host, "events": ",".join(webhook.events)}


def count(tx: Tx, app_id: str) -> int:
    """How many webhooks the app has, disabled ones included."""
    row = tx.row(_count, {"app_id": app_id})
    return int(row[0]) if row else 0


def of_app(tx: Tx, app_id: str) -> list[AppWebhook]:
    """The app's webhooks, the oldest first."""
    return [
        AppWebhook(row[0], row[1], tuple(map(WebhookEvent, row[2].split(","))), row[3], row[4])
        for row in tx.rows(_of_app, {"app_id": app_id})
    ]


def delete_webhook(tx: Tx, app_id: str, webhook_id: str) -> bool:
    """Ends a webhook and gives up what waits to be sent to it; False when the app has none of that id."""
    if tx.run(_delete, {"of_app": app_id, "of_id": webhook_id}) == 0:
        return False
    tx.put(_drop_of_webhook, {"of_id": webhook_id, "why": "The webhook was deleted."})
    return True


def disable(tx: Tx, run_id: str, webhook_id: str | None, why: str) -> None:
    """The receiver wants no more: nothing is sent to the webhook from now on, nor what waits already.

    Without a webhook's id it is the one that the run's request brought.
    """
    if webhook_id is None:
        tx.put(_delete_run_webhook, {"of_run": run_id})
        tx.put(_drop_of_run, {"of_run": run_id, "why": why})
    else:
        tx.put(_disable, {"of_id": webhook_id})
        tx.put(_drop_of_webhook, {"of_id": webhook_id, "why": why})


def secrets_of(tx: Tx, app_id: str) -> Secrets | None:
    """What signs for the app; None while it has no secret yet, or is no app."""
    row = tx.row(_secrets, {"app_id": app_id})
    if row is None or row[0] is None:
        return None
    return Secrets(row[0], row[1], row[2]) if row[1] and row[3] else Secrets(row[0])


def make_secret(tx: Tx, app_id: str, new: str) -> None:
    """Gives the app its first secret; one that it has already stays."""
    tx.put(_make_secret, {"of_app": app_id, "new_secret": new})


def rotate_secret(tx: Tx, app_id: str, new: str, overlap_s: float) -> None:
    """A new secret signs from now on, and the one before besides for `overlap_s`."""
    tx.put(_rotate_secret, {"of_app": app_id, "new_secret": new, "overlap_s": overlap_s})


def forget_run_webhooks(tx: Tx, older_s: float, most: int) -> int:
    """Deletes webhooks of runs that ended longer ago; returns how many, at most so many at once."""
    return tx.run(_forget, {"older_s": older_s, "most": most})
