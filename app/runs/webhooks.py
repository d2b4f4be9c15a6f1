"""What an app can do with its webhooks: one method a verb, and the check of where a request wants to be told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from app import clock, ids
from app.domain.request import Caller, Webhook, WebhookEvent
from app.errors import InvalidParam, NotFound
from app.outbound.reach import webhook_reach
from app.outbound.urls import check_url
from app.runs.service import Announcer
from app.settings import Settings
from app.store import deliveries
from app.store import webhooks as rows
from app.store.deliveries import Delivery, Query
from app.store.engine import Tx
from app.store.store import Store
from app.store.webhooks import AppWebhook, Secrets

MOST_WEBHOOKS = 20
OVERLAP_S = 86400.0
"""How long the secret before signs beside a new one."""


def check_webhook(
    url: object,
    events: object,
    settings: Settings,
    *,
    url_field: str = "webhook_url",
    events_field: str = "webhook_events",
) -> Webhook:
    """A webhook as somebody asked for it; `events` None: that a run has ended. Raises InvalidParam with the field."""
    if not isinstance(url, str):
        raise InvalidParam(f"{url_field} must be a URL", params=url_field)
    host = check_url(url, url_field, webhook_reach(settings))
    return Webhook(url, _events(events, events_field), host)


def _events(events: object, field: str) -> tuple[WebhookEvent, ...]:
    if events is None:
        return (WebhookEvent.FINISHED,)
    known = {event.value: event for event in WebhookEvent}
    if not isinstance(events, Sequence) or isinstance(events, str) or not events:
        raise InvalidParam(f"{field} must be a list with one or more of {', '.join(known)}", params=field)
    wrong = [event for event in events if not isinstance(event, str) or event not in known]
    if wrong:
        raise InvalidParam(f"{field} has '{str(wrong[0])[:40]}'; there are {', '.join(known)}", params=field)
    return tuple(known[event] for event in dict.fromkeys(events))


def create(tx: Tx, app_id: str, webhook: Webhook) -> AppWebhook:
    """Adds a webhook to the app; runs under way will tell it of their end. Raises InvalidParam when there are many."""
    if rows.count(tx, app_id) >= MOST_WEBHOOKS:
        raise InvalidParam(f"An app has {MOST_WEBHOOKS} webhooks at most: delete one first.")
    made = AppWebhook(ids.new_id(), webhook.url, webhook.events, clock.time())
    rows.make_secret(tx, app_id, ids.new_webhook_secret())
    rows.insert_webhook(tx, made.id, app_id, webhook, made.created_at)
    return made


def delete(tx: Tx, app_id: str, webhook_id: str) -> None:
    """Ends a webhook. Raises NotFound."""
    if not rows.delete_webhook(tx, app_id, webhook_id):
        raise NotFound("Webhook not found.")


def redeliver(tx: Tx, app_id: str, delivery_id: str) -> Delivery:
    """Makes a delivery due at once, under its own id; one that is being sent stays as it is.

    Raises NotFound; InvalidParam when its webhook was deleted or disabled meanwhile.
    """
    again = deliveries.send_again(tx, app_id, delivery_id)
    found = deliveries.find(tx, app_id, delivery_id)
    if found is None:
        raise NotFound("Delivery not found.")
    if not again and found.state != "sending":
        raise InvalidParam("The webhook of this delivery was deleted or disabled: create it anew first.")
    return found


def secrets(tx: Tx, app_id: str) -> Secrets:
    """What signs the app's deliveries; made when it is first asked for. Needs a transaction that may write."""
    rows.make_secret(tx, app_id, ids.new_webhook_secret())
    found = rows.secrets_of(tx, app_id)
    if found is None:
        raise NotFound("App not found.")
    return found


def rotate(tx: Tx, app_id: str) -> Secrets:
    """A new secret signs from now on, and the one before for another day."""
    rows.rotate_secret(tx, app_id, ids.new_webhook_secret(), OVERLAP_S)
    return secrets(tx, app_id)


class Webhooks:
    """The verbs for callers of the API."""

    def __init__(self, store: Store, announcer: Announcer, settings: Settings) -> None:
        self._store = store
        self._announcer = announcer
        self._settings = settings

    async def create(self, caller: Caller, url: str, events: Iterable[str]) -> AppWebhook:
        webhook = check_webhook(url, list(events), self._settings, url_field="url", events_field="events")
        return await self._store.commit(lambda tx: create(tx, caller.app_id, webhook))

    async def list(self, caller: Caller) -> Sequence[AppWebhook]:
        return await self._store.read(lambda tx: rows.of_app(tx, caller.app_id))

    async def delete(self, caller: Caller, webhook_id: str) -> None:
        await self._store.commit(lambda tx: delete(tx, caller.app_id, webhook_id))

    async def deliveries(self, caller: Caller, query: Query) -> Sequence[Delivery]:
        return await self._store.read(lambda tx: deliveries.page(tx, caller.app_id, query))

    async def redeliver(self, caller: Caller, delivery_id: str) -> Delivery:
        found = await self._store.commit(lambda tx: redeliver(tx, caller.app_id, delivery_id))
        self._announcer.post()
        return found

    async def secrets(self, caller: Caller) -> Secrets:
        return await self._store.commit(lambda tx: secrets(tx, caller.app_id))

    async def rotate(self, caller: Caller) -> Secrets:
        return await self._store.commit(lambda tx: rotate(tx, caller.app_id))
