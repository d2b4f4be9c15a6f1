"""The webhooks of an app over HTTP: making and ending them, their secret, and the log of what was sent."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request

from app.api.answer import Answer, json_answer, seconds
from app.api.operation import Operation, read_body, read_query
from app.domain.request import Caller, Scope, WebhookEvent
from app.errors import InvalidParam, NotFound
from app.outbound.urls import LONGEST_URL
from app.runs.publications import Publications
from app.runs.webhooks import Webhooks
from app.settings import Settings
from app.store.deliveries import Delivery, Query
from app.store.webhooks import AppWebhook, Secrets

_Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z", examples=["msg_6c1f0e3a9b0d4c5e8f7a6b5c4d3e2f10"])]
_Seconds = Annotated[int, Meta(description="seconds since 1970")]


class NewWebhook(msgspec.Struct):
    """Where an app's events are to be posted."""

    url: Annotated[
        str,
        Meta(max_length=LONGEST_URL, description="http or https, public", examples=["https://example.com/atelier"]),
    ]
    events: Annotated[tuple[WebhookEvent, ...], Meta(min_length=1, max_length=8, description="what is told")] = (
        WebhookEvent.FINISHED,
    )


class WebhookShown(msgspec.Struct):
    """A webhook. `disabled_at`: since its receiver answered 410 nothing is sent to it."""

    id: str
    url: str
    events: list[WebhookEvent]
    created_at: _Seconds
    disabled_at: _Seconds | None


class WebhookList(msgspec.Struct):
    data: list[WebhookShown]


class DeliveryQuery(msgspec.Struct):
    """Which deliveries a page shows, the newest first."""

    run_id: _Id | None = None
    state: Literal["pending", "sending", "delivered", "failed"] | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    cursor: Annotated[_Id | None, Meta(description="`next_cursor` of the page before")] = None


class DeliveryShown(msgspec.Struct):
    """One event on its way to one receiver; `id` is its `webhook-id`, the same in every attempt."""

    id: str
    run_id: str
    webhook_id: str | None
    event: str
    url: str
    state: Literal["pending", "sending", "delivered", "failed"]
    attempts: int
    last_status: int | None
    last_error: str | None
    created_at: _Seconds
    last_at: _Seconds | None
    next_at: _Seconds | None
    delivered_at: _Seconds | None


class DeliveryPage(msgspec.Struct):
    data: list[DeliveryShown]
    has_more: bool
    next_cursor: str | None


class SecretShown(msgspec.Struct):
    """What signs the app's deliveries. The secret before signs besides until `old_secret_until`."""

    secret: Annotated[str, Meta(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])]
    old_secret_until: _Seconds | None


class Done(msgspec.Struct):
    result: Literal["success"] = "success"


class WebhookApi:
    """The operations below `/v1/webhooks`; all need the scope `admin`."""

    def __init__(self, webhooks: Webhooks, publications: Publications, settings: Settings) -> None:
        self._webhooks = webhooks
        self._publications = publications
        self._settings = settings

    def operations(self) -> list[Operation]:
        def operation(method: str, path: str, handler: Any, summary: str, **more: Any) -> Operation:
            path = f"/v1/webhooks{path}"
            return Operation(method=method, path=path, handler=handler, scope=Scope.ADMIN, summary=summary, **more)

        return [
            operation(
                "POST",
                "",
                self._create,
                "Making a webhook",
                body=NewWebhook,
                answers={201: WebhookShown},
                raises=(InvalidParam,),
            ),
            operation("GET", "", self._list, "Listing webhooks", answers={200: WebhookList}),
            operation("GET", "/secret", self._secret, "Reading the webhooks' secret", answers={200: SecretShown}),
            operation(
                "POST", "/secret/rotate", self._rotate, "Rotating the webhooks' secret", answers={200: SecretShown}
            ),
            operation(
                "GET",
                "/deliveries",
                self._deliveries,
                "Listing deliveries",
                query=DeliveryQuery,
                answers={200: DeliveryPage},
                raises=(InvalidParam,),
            ),
            operation(
                "POST",
                "/deliveries/{delivery_id}/redeliver",
                self._redeliver,
                "Sending a delivery again",
                answers={200: DeliveryShown},
                raises=(NotFound, InvalidParam),
            ),
            operation(
                "DELETE",
                "/{webhook_id}",
                self._delete,
                "Deleting a webhook",
                answers={200: Done},
                raises=(NotFound,),
            ),
        ]

    async def _create(self, request: Request, caller: Caller) -> Answer:
        asked = await read_body(request, NewWebhook, self._settings.max_body_bytes)
        made = await self._webhooks.create(caller, asked.url, asked.events)
        self._publications.forget_callers()  # from now on the app has somebody to tell
        return json_answer(_webhook(made), 201)

    async def _list(self, request: Request, caller: Caller) -> Answer:
        return json_answer(WebhookList([_webhook(each) for each in await self._webhooks.list(caller)]))

    async def _delete(self, request: Request, caller: Caller) -> Answer:
        await self._webhooks.delete(caller, _id(request, "webhook_id", "Webhook"))
        return json_answer(Done())

    async def _secret(self, request: Request, caller: Caller) -> Answer:
        return json_answer(_secret(await self._webhooks.secrets(caller)))

    async def _rotate(self, request: Request, caller: Caller) -> Answer:
        return json_answer(_secret(await self._webhooks.rotate(caller)))

    async def _deliveries(self, request: Request, caller: Caller) -> Answer:
        asked = read_query(request, DeliveryQuery)
        query = Query(asked.limit + 1, asked.run_id, asked.state, asked.cursor)  # one more shows that there are more
        found = await self._webhooks.deliveries(caller, query)
        page, more = found[: asked.limit], len(found) > asked.limit
        return json_answer(DeliveryPage([_delivery(each) for each in page], more, page[-1].id if more else None))

    async def _redeliver(self, request: Request, caller: Caller) -> Answer:
        found = await self._webhooks.redeliver(caller, _id(request, "delivery_id", "Delivery"))
        return json_answer(_delivery(found))


def _id(request: Request, name: str, of: str) -> str:
    """An id of the path. Raises NotFound for what is none: no database need be asked."""
    text: str = request.path_params[name]
    if not (text.isascii() and text.replace("-", "").replace("_", "").isalnum()):
        raise NotFound(f"{of} not found.")
    return text


def _webhook(found: AppWebhook) -> WebhookShown:
    return WebhookShown(found.id, found.url, list(found.events), int(found.created_at), seconds(found.disabled_at))


def _delivery(found: Delivery) -> DeliveryShown:
    return DeliveryShown(
        id=found.id,
        run_id=found.run_id,
        webhook_id=found.webhook_id,
        event=found.event,
        url=found.url,
        state=found.state,
        attempts=found.attempts,
        last_status=found.last_status,
        last_error=found.last_error,
        created_at=int(found.created_at),
        last_at=seconds(found.last_at),
        next_at=seconds(found.next_at),
        delivered_at=seconds(found.delivered_at),
    )


def _secret(found: Secrets) -> SecretShown:
    return SecretShown(found.current, seconds(found.old_until))
