"""Apps, their published workflow versions, and the keys that open them."""

from __future__ import annotations

import hashlib

import msgspec
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.dialects import postgresql

from app.domain.request import Caller, Scope
from app.store.engine import Tx
from app.store.schema import apps, keys, workflows


class PublishedWorkflow(msgspec.Struct, frozen=True):
    """One version of an app's workflow: its id, its version text and the document as published."""

    id: str
    app_id: str
    version: str
    document: str


class Key(msgspec.Struct, frozen=True):
    """A key as it may be shown: the token itself is nowhere."""

    id: str
    app_name: str
    label: str
    prefix: str
    created_at: float
    revoked_at: float | None = None
    priority: int = 0


def token_hash(token: str) -> str:
    """What is stored of a token. Plain SHA-256 will do: 143 random bits can't be guessed, salted or not."""
    return hashlib.sha256(token.encode()).hexdigest()


_key_by_hash = select(
    keys.c.id,
    keys.c.app_id,
    keys.c.label,
    keys.c.scopes,
    keys.c.priority,
    keys.c.max_active,
    keys.c.max_queued,
    apps.c.max_active_requests,
    apps.c.workflow_id,
).join(apps, apps.c.id == keys.c.app_id)
_key_by_hash = _key_by_hash.where(keys.c.hash == bindparam("hash"), keys.c.revoked_at.is_(None))
_workflow_columns = (workflows.c.id, workflows.c.app_id, workflows.c.version, workflows.c.document)
_workflow_by_id = select(*_workflow_columns).where(workflows.c.id == bindparam("workflow_id"))
_app_by_name = select(apps.c.id, apps.c.workflow_id).where(apps.c.name == bindparam("name"))
_all_apps = select(apps.c.name, workflows.c.id, workflows.c.version).join(
    workflows, workflows.c.id == apps.c.workflow_id
)
_all_apps = _all_apps.order_by(apps.c.name)
_all_keys = (
    select(keys.c.id, apps.c.name, keys.c.label, keys.c.prefix, keys.c.created_at, keys.c.revoked_at, keys.c.priority)
    .join(apps, apps.c.id == keys.c.app_id)
    .order_by(keys.c.created_at)
)
_insert_workflow = insert(workflows)
_KEY = ("id", "app_id", "label", "prefix", "hash", "created_at", "priority")
_insert_key = insert(keys).values({name: bindparam(name) for name in _KEY})
# SQLite takes the same words.
_APP = ("id", "name", "workflow_id", "created_at")
_insert_app = postgresql.insert(apps).values({name: bindparam(name) for name in _APP})
_insert_app = _insert_app.on_conflict_do_nothing(index_elements=[apps.c.name])
_point_app = update(apps).where(apps.c.id == bindparam("app")).values(workflow_id=bindparam("version_id"))
_limit_app = update(apps).where(apps.c.name == bindparam("of_name")).values(max_active_requests=bindparam("most"))
_revoke_key = (
    update(keys)
    .where(keys.c.id == bindparam("key_id"), keys.c.revoked_at.is_(None))
    .values(revoked_at=bindparam("now"))
)


def find_key(tx: Tx, hashed: str) -> tuple[Caller, str] | None:
    """(whom a live key stands for, id of the app's published workflow), by the hash of its token."""
    row = tx.row(_key_by_hash, {"hash": hashed})
    if row is None:
        return None
    scopes = frozenset(map(Scope, row[3].split(",")))
    return Caller(row[0], row[1], row[2], scopes, *row[4:8]), row[8]


def find_workflow(tx: Tx, workflow_id: str) -> PublishedWorkflow | None:
    row = tx.row(_workflow_by_id, {"workflow_id": workflow_id})
    return PublishedWorkflow(*row) if row else None


def find_app(tx: Tx, name: str) -> tuple[str, str] | None:
    """(app id, id of its published workflow)."""
    row = tx.row(_app_by_name, {"name": name})
    return (row[0], row[1]) if row else None


def list_apps(tx: Tx) -> list[tuple[str, str, str]]:
    """(name, id of the published workflow, its version) of every app."""
    return [(row[0], row[1], row[2]) for row in tx.rows(_all_apps)]


def list_keys(tx: Tx) -> list[Key]:
    return [Key(*row) for row in tx.rows(_all_keys)]


def publish(tx: Tx, name: str, published: PublishedWorkflow, now: float) -> None:
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
        if current is not None and current.document == published.document:
            return
    app_id = app[0] if app else published.app_id
    row = {"id": published.id, "app_id": app_id, "version": published.version, "document": published.document}
    tx.run(_insert_workflow, {**row, "created_at": now})
    if app is not None:
        tx.run(_point_app, {"app": app_id, "version_id": published.id})


def limit_app(tx: Tx, name: str, max_active: int) -> bool:
    """Sets how many runs of the app may be under way at once (0: any number); False when there is no such app."""
    return tx.run(_limit_app, {"of_name": name, "most": max_active}) > 0


def insert_key(tx: Tx, key: Key, app_id: str, token: str) -> None:
    """Stores a new key; of its token only the hash."""
    row = {"id": key.id, "app_id": app_id, "label": key.label, "prefix": key.prefix, "hash": token_hash(token)}
    tx.run(_insert_key, {**row, "created_at": key.created_at, "priority": key.priority})


def revoke_key(tx: Tx, key_id: str, now: float) -> bool:
    """Ends a key; False when there is no live key of that id."""
    return tx.run(_revoke_key, {"key_id": key_id, "now": now}) > 0
