"""`atelier keys`: create, list, change, rotate, revoke. Whoever reaches the database may do all of it."""

from __future__ import annotations

import time
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from app.domain.key import LONGEST_NAME, MOST_RUNS, PRIORITY, KeyTerms, in_order, read_duration, read_scopes
from app.errors import InvalidParam
from app.installation import FIRST_APP, grant_key, open_store
from app.runs.keyring import end_key, find_live_key, mint, replace_key
from app.runs.revision import NOTICED_S
from app.settings import load_settings
from app.store import accounts
from app.store.accounts import Key
from app.store.engine import Tx
from app.terminal import out

keys = typer.Typer(no_args_is_help=True, help="Bearer keys: each opens one app.")

_GO_FIRST = "Steps of keys with a higher one go first."
_SCOPES = "What it may do: run, read, stop, files, checkpoints, admin; or all."
_ACTIVE = "Runs under way at once; 0: no limit."
_QUEUED = "Runs that wait; 0: no limit."
KeyId = Annotated[str, typer.Argument(help="The key's id, from `keys list`.")]


@keys.command("create")
def create(  # noqa: PLR0913 - each is an option
    app_name: Annotated[str, typer.Option("--app", help="The app that the key opens.")] = FIRST_APP,
    name: Annotated[str, typer.Option(help="What the key is for, or whose it is.")] = "",
    scope: Annotated[str, typer.Option(help=_SCOPES)] = ("run,read,stop,files"),
    expires: Annotated[str, typer.Option(help="When it ends, such as 30d, 12h or 8w; default: never.")] = "",
    priority: Annotated[int, typer.Option(min=PRIORITY[0], max=PRIORITY[1], help=_GO_FIRST)] = 0,
    max_active: Annotated[int, typer.Option(min=0, max=MOST_RUNS, help=_ACTIVE)] = 0,
    max_queued: Annotated[int, typer.Option(min=0, max=MOST_RUNS, help=_QUEUED)] = 0,
    label: Annotated[str, typer.Option(hidden=True, help="The name, as it was called before.")] = "",
) -> None:
    """Make a key. It is shown once: only its hash is stored."""
    lasts_s = _lasts_s(expires) if expires else None
    terms = KeyTerms(_name(name or label), read_scopes(scope), priority, max_active, max_queued, lasts_s)
    new = mint()
    with open_store(load_settings()) as store:
        out.print(store.commit_blocking(lambda tx: grant_key(tx, app_name, new, terms)))


@keys.command("list")
def list_keys() -> None:
    """List the keys by their first characters. A limit of 0 is none."""
    columns = ("id", "key", "name", "app", "scopes", "priority", "active", "queued", "made", "expires", "last used")
    table = Table(*columns, "state", box=None)
    with open_store(load_settings()) as store:
        for key in store.read_blocking(accounts.list_keys):
            table.add_row(*_row(key))
    out.print(table)


@keys.command("change")
def change(  # noqa: PLR0913 - each is an option
    key_id: KeyId,
    name: Annotated[str | None, typer.Option(help="What the key is for, or whose it is.")] = None,
    scope: Annotated[str | None, typer.Option(help=_SCOPES)] = None,
    expires: Annotated[str | None, typer.Option(help="When it ends, counted from now, such as 30d; or never.")] = None,
    priority: Annotated[int | None, typer.Option(min=PRIORITY[0], max=PRIORITY[1], help=_GO_FIRST)] = None,
    max_active: Annotated[int | None, typer.Option(min=0, max=MOST_RUNS, help=_ACTIVE)] = None,
    max_queued: Annotated[int | None, typer.Option(min=0, max=MOST_RUNS, help=_QUEUED)] = None,
) -> None:
    """Give a key other terms. When this returns, every server goes by them."""
    said: dict[str, Any] = {"priority": priority, "max_active": max_active, "max_queued": max_queued}
    new = {field: value for field, value in said.items() if value is not None}
    new |= {} if name is None else {"name": _name(name)}
    new |= {} if scope is None else {"scopes": read_scopes(scope)}

    def unit(tx: Tx) -> None:
        key = find_live_key(tx, key_id)
        if new:
            accounts.change_key(tx, key_id, msgspec.structs.replace(key.terms, **new))
        if expires is not None:
            accounts.prolong_key(tx, key_id, None if expires == "never" else _lasts_s(expires))

    with open_store(load_settings()) as store:
        store.commit_blocking(unit)
    time.sleep(NOTICED_S)


@keys.command("rotate")
def rotate(
    key_id: KeyId,
    overlap: Annotated[str, typer.Option(help="How long the old key goes on beside the new one, such as 24h.")] = "24h",
) -> None:
    """Make a key in place of another, on the same terms, and show it once. The old one ends after the overlap."""
    overlap_s, new = read_duration(overlap), mint()
    with open_store(load_settings()) as store:
        store.commit_blocking(lambda tx: replace_key(tx, key_id, new, overlap_s))
    if overlap_s < NOTICED_S:
        time.sleep(NOTICED_S)
    out.print(new.token)


@keys.command("revoke")
def revoke(key_id: KeyId) -> None:
    """End a key. When this returns, every server refuses it."""
    with open_store(load_settings()) as store:
        ended = store.commit_blocking(lambda tx: end_key(tx, key_id))
    time.sleep(NOTICED_S)
    out.print(f"Revoked: {ended.prefix}… {ended.name}".rstrip(), markup=False)


def _name(text: str) -> str:
    if len(text) > LONGEST_NAME:
        raise InvalidParam(f"--name is longer than {LONGEST_NAME} characters.")
    return text


def _lasts_s(text: str) -> int:
    lasts_s = read_duration(text)
    if lasts_s == 0:
        raise InvalidParam("--expires must be later than now: `keys revoke` ends a key.")
    return lasts_s


def _row(key: Key) -> list[str | Text]:
    limits = (str(key.priority), str(key.max_active), str(key.max_queued))
    times = (_time(key.created_at), _time(key.expires_at), _time(key.last_used_at))
    return [
        key.id,
        f"{key.prefix}…",
        Text(key.name),  # not its markup: a caller may have written it
        key.app_name,
        ",".join(in_order(key.scopes)),
        *limits,
        *times,
        key.state,
    ]


def _time(moment: float | None) -> str:
    return "never" if moment is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))
