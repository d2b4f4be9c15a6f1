"""`atelier webhooks`: create, list, delete, deliveries, redeliver, secret."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, TypeVar

import typer
from rich.table import Table
from rich.text import Text

from app.domain.request import WebhookEvent
from app.errors import InvalidParam
from app.installation import FIRST_APP, app_named, open_store
from app.runs import webhooks as verbs
from app.settings import load_settings
from app.store import deliveries
from app.store import webhooks as rows
from app.store.deliveries import Query
from app.store.engine import Tx
from app.terminal import out

T = TypeVar("T")

webhooks = typer.Typer(no_args_is_help=True, help="Where an app's events are posted, and what became of that.")

App = Annotated[str, typer.Option("--app", help="The app whose webhooks they are.")]
_STATES = ("pending", "sending", "delivered", "failed")


@webhooks.command("create")
def create(
    url: Annotated[str, typer.Argument(help="An http or https URL; the address must be public.")],
    event: Annotated[list[WebhookEvent], typer.Option(help="What is told; may be given several times.")] = [  # noqa: B006
        WebhookEvent.FINISHED
    ],
    app_name: App = FIRST_APP,
) -> None:
    """Post an app's events to a URL. Prints the webhook's id."""
    asked = verbs.check_webhook(url, list(event), load_settings(), url_field="URL", events_field="--event")
    out.print(_commit(app_name, lambda tx, app_id: verbs.create(tx, app_id, asked)).id)


@webhooks.command("list")
def list_webhooks(app_name: App = FIRST_APP) -> None:
    """List an app's webhooks."""
    table = Table("id", "url", "events", "made", "state", box=None)
    for each in _read(app_name, rows.of_app):
        state = "live" if each.disabled_at is None else f"disabled {_time(each.disabled_at)}: answered 410"
        table.add_row(each.id, Text(each.url), ",".join(each.events), _time(each.created_at), state)
    out.print(table)


@webhooks.command("delete")
def delete(
    webhook_id: Annotated[str, typer.Argument(help="The webhook's id, from `webhooks list`.")],
    app_name: App = FIRST_APP,
) -> None:
    """End a webhook; what waits to be sent to it is given up."""
    _commit(app_name, lambda tx, app_id: verbs.delete(tx, app_id, webhook_id))


@webhooks.command("deliveries")
def list_deliveries(
    app_name: App = FIRST_APP,
    run: Annotated[str, typer.Option(help="Only those of this run.")] = "",
    state: Annotated[str, typer.Option(help="Only pending, sending, delivered or failed ones.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, the newest first.")] = 20,
) -> None:
    """List what was and is to be sent."""
    known = next((each for each in _STATES if each == state), None)
    if state and known is None:
        raise InvalidParam(f"--state is one of {', '.join(_STATES)}.")
    query = Query(limit, run or None, known)  # type: ignore[arg-type]
    table = Table("id", "run", "event", "state", "attempts", "last", "made", "next", "url", box=None)
    for each in _read(app_name, lambda tx, app_id: deliveries.page(tx, app_id, query)):
        last = each.last_error or (str(each.last_status) if each.last_status else "")
        times = (_time(each.created_at), _time(each.next_at))
        table.add_row(
            each.id, each.run_id, each.event, each.state, str(each.attempts), Text(last), *times, Text(each.url)
        )
    out.print(table)


@webhooks.command("redeliver")
def redeliver(
    delivery_id: Annotated[str, typer.Argument(help="The delivery's id, from `webhooks deliveries`.")],
    app_name: App = FIRST_APP,
) -> None:
    """Send a delivery again now, under the same id."""
    _commit(app_name, lambda tx, app_id: verbs.redeliver(tx, app_id, delivery_id))


@webhooks.command("secret")
def secret(
    app_name: App = FIRST_APP,
    rotate: Annotated[bool, typer.Option("--rotate", help="Make a new one; the old one signs for a day more.")] = False,
) -> None:
    """Show what signs an app's deliveries."""
    out.print(_commit(app_name, verbs.rotate if rotate else verbs.secrets).current)


def _commit(app_name: str, unit: Callable[[Tx, str], T]) -> T:
    with open_store(load_settings()) as store:
        return store.commit_blocking(lambda tx: unit(tx, app_named(tx, app_name)))


def _read(app_name: str, query: Callable[[Tx, str], T]) -> T:
    with open_store(load_settings()) as store:
        return store.read_blocking(lambda tx: query(tx, app_named(tx, app_name)))


def _time(moment: float | None) -> str:
    return "" if moment is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
