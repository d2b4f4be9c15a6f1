"""What an installation has before it serves anybody: its tables, its first app and that app's key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.client import KEY_FILE, LENT_KEY_FILE
from app.domain.key import KeyTerms
from app.domain.request import CALLER_SCOPES, Scope
from app.errors import InvalidParam
from app.runs.keyring import Minted, make_key, mint
from app.runs.publishing import Edition, publish
from app.runs.shipped import shipped
from app.settings import Settings
from app.store import accounts
from app.store.accounts import token_hash
from app.store.engine import Tx
from app.store.migrate import require_current, upgrade
from app.store.store import Store

FIRST_APP = "text-to-image"

_FIRST = KeyTerms("quickstart")
_LENT = KeyTerms("programs on this machine", CALLER_SCOPES | {Scope.CHECKPOINTS})
"""Whoever may run programs here may bring checkpoints: `ollama pull` works as its users expect it to."""


def prepare(settings: Settings) -> str:
    """Database, first app and first key, made where they are missing; returns the key.

    In the production form tables are `atelier db upgrade`'s: an old schema is refused. Raises SettingsInvalid,
    Unavailable.
    """
    with open_store(settings) as store:
        store.commit_blocking(publish_first_app)
        if settings.open_to_loopback:
            _kept_key(store, settings.data_dir / LENT_KEY_FILE, _LENT)
        return _kept_key(store, settings.data_dir / KEY_FILE, _FIRST)


@contextmanager
def open_store(settings: Settings) -> Iterator[Store]:
    """The store for a command: its tables are at this version, and it is closed at the end."""
    if settings.is_embedded:
        upgrade(settings)
    else:
        require_current(settings)
    store = Store(settings)
    try:
        yield store
    finally:
        store.close()


def create_key(tx: Tx, app_name: str, name: str, priority: int = 0) -> str:
    """A new key for the app, for its callers' programs. Raises InvalidParam when there is no such app."""
    return grant_key(tx, app_name, mint(), KeyTerms(name, priority=priority))


def grant_key(tx: Tx, app_name: str, new: Minted, terms: KeyTerms) -> str:
    """The token of a new key on these terms. Raises InvalidParam when there is no such app."""
    make_key(tx, app_named(tx, app_name), new, terms)
    return new.token


def app_named(tx: Tx, name: str) -> str:
    """The id of an app. Raises InvalidParam with the names that there are."""
    app = accounts.find_app(tx, name)
    if app is None:
        names = ", ".join(each for each, _, _ in accounts.list_apps(tx)) or "none before the server's first start"
        raise InvalidParam(f"There is no app named {name}. Apps: {names}.")
    return app[0]


def publish_first_app(tx: Tx) -> None:
    """The app that every installation has; one that is there already is its owner's and stays as it is."""
    if accounts.find_app(tx, FIRST_APP) is None:
        publish(tx, FIRST_APP, Edition.of(shipped(FIRST_APP).text))


def _kept_key(store: Store, file: Path, terms: KeyTerms) -> str:
    """A key that is kept readable for this account alone, so that the quickstart's curl line works after a restart."""
    if file.exists():
        token = file.read_text().strip()
        known = store.read_blocking(lambda tx: accounts.find_key(tx, token_hash(token)))
        if known is not None and not known.is_expired:
            return token
    new = mint()
    token = store.commit_blocking(lambda tx: grant_key(tx, FIRST_APP, new, terms))
    file.touch(0o600)
    file.write_text(token + "\n")
    return token
