"""Apps, their published workflow versions, and the keys that open them.

Whoever changes one of them raises the revision in the same transaction: what processes remember is good while it stands
still. What only tells how a key is used (`last_used_at`, `served_at`) is no change.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from sqlalchemy import bindparam, case, exists, false, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql

from app.domain.key import KeyTerms, in_order
from app.domain.request import CALLER_SCOPES, Caller, Scope
from app.store.engine import Row, Tx
from app.store.rows import from_json, to_json_or_null
from app.store.schema import apps, keys, now_s, revisions, webhooks, workflows

KeyState = Literal["live", "expired", "revoked"]


class PublishedWorkflow(msgspec.Struct, frozen=True):
    """One version of an app's workflow: its id, its version text and the document as published.

    `environment` has values in place of the document's own environment variables.
    """

    id: str
    app_id: str
    version: str
    document: str
    environment: Mapping[str, str] | None = None


class Publishing(msgspec.Struct, frozen=True):
    """What an app runs once something was published for it. Not `is_new_version`: it ran the same already."""

    app_id: str
    workflow_id: str
    is_new_version: bool


class Key(msgspec.Struct, frozen=True):
    """A key as it may be shown: the token itself is nowhere. `state` is how it stands by the database's clock."""

    id: str
    app_name: str
    name: str
    prefix: str
    created_at: float
    revoked_at: float | None = None
    priority: int = 0
    scopes: frozenset[Scope] = CALLER_SCOPES
    max_active: int = 0
    max_queued: int = 0
    expires_at: float | None = None
    last_used_at: float | None = None
    state: KeyState = "live"
    app_id: str = ""

    @property
    def terms(self) -> KeyTerms:
        """What it was given: a key that takes its place gets the same."""
        lasts_s = None if self.expires_at is None else round(self.expires_at - self.created_at, 3)
        return KeyTerms(self.name, self.scopes, self.priority, self.max_active, self.max_queued, lasts_s)


class OpenedApp(msgspec.Struct, frozen=True):
    """What a key opens: whom it stands for, and the app's published workflow. `expires_at` is infinite for ever."""

    caller: Caller
    workflow_id: str
    expires_at: float
    is_expired: bool


def token_hash(token: str) -> str:
    """What is stored of a token. Plain SHA-256 will do: 143 random bits can't be guessed, salted or not."""
    return hashlib.sha256(token.encode()).hexdigest()


_is_expired = func.coalesce(keys.c.expires_at <= now_s(), false())
_key_by_hash = (
    select(
        keys.c.id,
        keys.c.app_id,
        keys.c.label,
        keys.c.scopes,
        keys.c.priority,
        keys.c.max_active,
        keys.c.max_queued,
        apps.c.max_active_requests,
        apps.c.workflow_id,
        keys.c.expires_at,
        _is_expired,
        keys.c.hash,
        exists().where(webhooks.c.app_id == apps.c.id, webhooks.c.disabled_at.is_(None)).correlate(apps),
    )
    .join(apps, apps.c.id == keys.c.app_id)
    .where(keys.c.hash == bindparam("hash"), keys.c.revoked_at.is_(None))
)
_workflow_columns = tuple(workflows.c[name] for name in PublishedWorkflow.__struct_fields__)
_workflow_by_id = select(*_workflow_columns).where(workflows.c.id == bindparam("workflow_id"))
_app_by_name = select(apps.c.id, apps.c.workflow_id).where(apps.c.name == bindparam("name"))
_all_apps = select(apps.c.name, workflows.c.id, workflows.c.version).join(
    workflows, workflows.c.id == apps.c.workflow_id
)
_all_apps = _all_apps.order_by(apps.c.name)
_versions_of_app = (
    select(workflows.c.id, workflows.c.version)
    .where(workflows.c.app_id == bindparam("app"))
    .order_by(workflows.c.created_at.desc(), workflows.c.id.desc())
)
_shown_keys = (
    select(
        keys.c.id,
        apps.c.name,
        keys.c.label,
        keys.c.prefix,
        keys.c.created_at,
        keys.c.revoked_at,
        keys.c.priority,
        keys.c.scopes,
        keys.c.max_active,
        keys.c.max_queued,
        keys.c.expires_at,
        keys.c.last_used_at,
        case((keys.c.revoked_at.is_not(None), "revoked"), (_is_expired, "expired"), else_="live"),
        keys.c.app_id,
    )
    .join(apps, apps.c.id == keys.c.app_id)
    .order_by(keys.c.created_at, keys.c.id)
)
_keys_of_app = _shown_keys.where(keys.c.app_id == bindparam("app"))
_key_by_id = _shown_keys.where(keys.c.id == bindparam("key_id"))
_insert_workflow = insert(workflows)
_WORKFLOW = ("id", "app_id", "version", "document", "created_at")
_add_version = postgresql.insert(workflows).values({name: bindparam(name) for name in _WORKFLOW})
_add_version = _add_version.on_conflict_do_nothing(index_elements=[workflows.c.id])
# SQLite takes the same words.
_KEY = ("id", "app_id", "label", "prefix", "hash", "priority", "scopes", "max_active", "max_queued")
_insert_key = (
    postgresql.insert(keys)
    .values({name: bindparam(name) for name in _KEY})
    .values(created_at=now_s(), expires_at=now_s() + bindparam("lasts_s"))
    .on_conflict_do_nothing(index_elements=[keys.c.id])
)
_SAME_NAME = ("id", "prefix", "priority", "max_active", "max_queued")
_APP = ("id", "name", "workflow_id", "created_at")
_insert_app = postgresql.insert(apps).values({name: bindparam(name) for name in _APP})
_insert_app = _insert_app.on_conflict_do_nothing(index_elements=[apps.c.name])
_point_app = update(apps).where(apps.c.id == bindparam("app")).values(workflow_id=bindparam("version_id"))
_limit_app = update(apps).where(apps.c.name == bindparam("of_name")).values(max_active_requests=bindparam("most"))
_site_of_app = select(apps.c.site).where(apps.c.id == bindparam("app"))
_set_site = update(apps).where(apps.c.id == bindparam("app")).values(site=bindparam("new_site"))
_live_key = update(keys).where(keys.c.id == bindparam("key_id"), keys.c.revoked_at.is_(None))
_revoke_key = _live_key.values(revoked_at=now_s())
_TERMS = ("priority", "scopes", "max_active", "max_queued")
_change_key = _live_key.values({name: bindparam(f"new_{name}") for name in _TERMS} | {"label": bindparam("new_name")})
_prolong_key = _live_key.values(expires_at=now_s() + bindparam("lasts_s"))
_end_within = now_s() + bindparam("within_s")
_expire_key = _live_key.where(or_(keys.c.expires_at.is_(None), keys.c.expires_at > _end_within)).values(
    expires_at=_end_within
)
_used_at = now_s() - bindparam("ago_s")
_note_use = (
    update(keys)
    .where(keys.c.id == bindparam("key_id"), or_(keys.c.last_used_at.is_(None), keys.c.last_used_at < _used_at))
    .values(last_used_at=_used_at)
)
_raise_revision = postgresql.insert(revisions).values(name=bindparam("name"), revision=1)
_raise_revision = _raise_revision.on_conflict_do_update(
    index_elements=[revisions.c.name], set_={"revision": revisions.c.revision + 1}
)
_revision = select(
    func.coalesce(select(revisions.c.revision).where(revisions.c.name == bindparam("name")).scalar_subquery(), 0),
    now_s(),
)
_ACCOUNTS = {"name": "accounts"}


def find_revision(tx: Tx) -> tuple[int, float]:
    """(the revision of keys, apps and workflows, what the database's clock shows)."""
    row = tx.row(_revision, _ACCOUNTS)
    return (int(row[0]), float(row[1])) if row else (0, 0.0)


def raise_revision(tx: Tx) -> None:
    """What any process remembers of keys, apps and workflows is out of date with this commit.

    The last statement of its transaction: until that ends, all others that raise it wait.
    """
    tx.run(_raise_revision, _ACCOUNTS)


def find_key(tx: Tx, hashed: str) -> OpenedApp | None:
    """What the key opens whose token has this hash; None when there is none, or it was revoked.

    The index compares hashes as it likes: how long that takes tells of a hash, and nobody makes tokens to a hash. The
    last word is a comparison that takes the same time for any two.
    """
    row = tx.row(_key_by_hash, {"hash": hashed})
    if row is None or not hmac.compare_digest(row[11], hashed):
        return None
    caller = Caller(row[0], row[1], row[2], _scopes(row[3]), row[4], row[5], row[6], row[7], bool(row[12]))
    return OpenedApp(caller, row[8], float("inf") if row[9] is None else row[9], bool(row[10]))


def find_workflow(tx: Tx, workflow_id: str) -> PublishedWorkflow | None:
    row = tx.row(_workflow_by_id, {"workflow_id": workflow_id})
    if row is None:
        return None
    return PublishedWorkflow(row[0], row[1], row[2], row[3], from_json(row[4]))


def find_app(tx: Tx, name: str) -> tuple[str, str] | None:
    """(app id, id of its published workflow)."""
    row = tx.row(_app_by_name, {"name": name})
    return (row[0], row[1]) if row else None


def list_apps(tx: Tx) -> list[tuple[str, str, str]]:
    """(name, id of the published workflow, its version) of every app."""
    return [(row[0], row[1], row[2]) for row in tx.rows(_all_apps)]


def list_versions(tx: Tx, app_id: str) -> list[tuple[str, str]]:
    """(id, version) of every version that the app has or had, the newest first."""
    return [(row[0], row[1]) for row in tx.rows(_versions_of_app, {"app": app_id})]


def list_keys(tx: Tx, app_id: str | None = None) -> list[Key]:
    """All keys, or those of an app, the oldest first."""
    rows = tx.rows(_shown_keys) if app_id is None else tx.rows(_keys_of_app, {"app": app_id})
    return [_key_from(row) for row in rows]


def find_key_by_id(tx: Tx, key_id: str) -> Key | None:
    row = tx.row(_key_by_id, {"key_id": key_id})
    return _key_from(row) if row else None


def publish(tx: Tx, name: str, published: PublishedWorkflow, now: float) -> Publishing:
    """Makes the version the one that the app runs; creates the app on its first. The same document again is no change.

    `published.app_id` is used when the app is new; an existing app keeps its own. Of two that publish a new app at once
    the second finds the first one's.
    """
    new = {"id": published.app_id, "name": name, "workflow_id": published.id, "created_at": now}
    app = find_app(tx, name)
    if app is None and tx.run(_insert_app, new) == 0:
        app = find_app(tx, name)
    if app is not None:
        current = find_workflow(tx, app[1])
        if current is not None and (current.document, current.environment) == (
            published.document,
            published.environment,
        ):
            return Publishing(app[0], app[1], is_new_version=False)
    app_id = app[0] if app else published.app_id
    row: dict[str, Any] = {
        "id": published.id,
        "app_id": app_id,
        "version": published.version,
        "document": published.document,
    }
    row["environment"] = to_json_or_null(published.environment)
    tx.run(_insert_workflow, {**row, "created_at": now})
    if app is not None:
        tx.run(_point_app, {"app": app_id, "version_id": published.id})
    raise_revision(tx)
    return Publishing(app_id, published.id, is_new_version=True)


def add_version(tx: Tx, version: PublishedWorkflow, now: float) -> None:
    """A version of an app that the app does not run by itself. One that is there already stays as it is."""
    row = {"id": version.id, "app_id": version.app_id, "version": version.version, "document": version.document}
    tx.run(_add_version, {**row, "created_at": now})


def limit_app(tx: Tx, name: str, max_active: int) -> bool:
    """Sets how many runs of the app may be under way at once (0: any number); False when there is no such app."""
    if not tx.run(_limit_app, {"of_name": name, "most": max_active}):
        return False
    raise_revision(tx)
    return True


def find_site(tx: Tx, app_id: str) -> dict[str, Any]:
    """What the app's page shows where it differs from the document."""
    row = tx.row(_site_of_app, {"app": app_id})
    site: dict[str, Any] | None = from_json(row[0]) if row else None
    return site or {}


def set_site(tx: Tx, app_id: str, site: Mapping[str, Any]) -> None:
    tx.run(_set_site, {"app": app_id, "new_site": to_json_or_null(site or None)})


def insert_key(tx: Tx, key: Key, app_id: str, token: str, lasts_s: float | None = None) -> None:
    """Stores a new key; of its token only the hash. Its times are the database's: it expires after `lasts_s`, if any.

    Done twice it is there once.
    """
    row: dict[str, Any] = {name: getattr(key, name) for name in _SAME_NAME}
    row |= {"app_id": app_id, "label": key.name, "hash": token_hash(token), "scopes": ",".join(in_order(key.scopes))}
    tx.run(_insert_key, row | {"lasts_s": lasts_s})
    raise_revision(tx)


def revoke_key(tx: Tx, key_id: str) -> None:
    """Ends a key; one that was revoked before stays so."""
    if tx.run(_revoke_key, {"key_id": key_id}):
        raise_revision(tx)


def change_key(tx: Tx, key_id: str, terms: KeyTerms) -> None:
    """Gives a key that was not revoked other terms; its end stays."""
    row: dict[str, Any] = {"key_id": key_id, "new_name": terms.name, "new_scopes": ",".join(in_order(terms.scopes))}
    row |= {f"new_{name}": getattr(terms, name) for name in _TERMS if name != "scopes"}
    if tx.run(_change_key, row):
        raise_revision(tx)


def prolong_key(tx: Tx, key_id: str, lasts_s: float | None) -> None:
    """A key that was not revoked ends so long after now, or never; sooner or later than it would have."""
    if tx.run(_prolong_key, {"key_id": key_id, "lasts_s": lasts_s}):
        raise_revision(tx)


def expire_key(tx: Tx, key_id: str, within_s: float) -> None:
    """The key ends after so many seconds at the latest; one that ends sooner keeps its end."""
    if tx.run(_expire_key, {"key_id": key_id, "within_s": within_s}):
        raise_revision(tx)


def note_uses(tx: Tx, ago_s: Mapping[str, float]) -> None:
    """When keys were used last, as seconds before now by key id. A later use that another process noted stays."""
    for key_id in sorted(ago_s):  # all in one order, so that no two processes wait for each other
        tx.put(_note_use, {"key_id": key_id, "ago_s": ago_s[key_id]})


def _scopes(text: str) -> frozenset[Scope]:
    names = text.split(",")  # a later version may have written one that we don't know: it opens nothing here
    return frozenset(scope for scope in Scope if scope.value in names)


def _key_from(row: Row) -> Key:
    named = dict(zip(Key.__struct_fields__, row, strict=True))
    return Key(**{**named, "scopes": _scopes(named["scopes"])})
