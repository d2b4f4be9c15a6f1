"""The users that apps have seen: `ids.end_user_id` makes their ids, and these rows lead back from an id to the name."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from sqlalchemy import bindparam, func, select
from sqlalchemy.dialects import postgresql

from app import ids
from app.store.engine import Tx
from app.store.schema import end_users, now_s, runs

_RECENT = 5000


class EndUser(msgspec.Struct, frozen=True):
    id: str
    app_id: str
    user: str
    created_at: float


_COLUMNS = ("id", "app_id", "user")
_insert = postgresql.insert(end_users)  # SQLite takes the same words
_insert = _insert.values({name: bindparam(name) for name in _COLUMNS} | {"created_at": now_s()})
_insert = _insert.on_conflict_do_nothing(index_elements=[end_users.c.id])
_by_id = select(*(end_users.c[name] for name in EndUser.__struct_fields__)).where(
    end_users.c.id == bindparam("user_id"), end_users.c.app_id == bindparam("app")
)
_newest = (
    select(runs.c.user, runs.c.created_at)
    .where(runs.c.app_id == bindparam("app"))
    .order_by(runs.c.created_at.desc())
    .limit(_RECENT)
    .subquery()
)
_recent_users = select(_newest.c.user, func.min(_newest.c.created_at)).group_by(_newest.c.user)


def insert_users(tx: Tx, users: Iterable[tuple[str, str]]) -> None:
    """Stores (app id, user) pairs; those that are there stay as they are."""
    for app_id, user in sorted(users):  # all in one order, so that no two processes wait for each other
        tx.put(_insert, {"id": ids.end_user_id(app_id, user), "app_id": app_id, "user": user})


def find_user(tx: Tx, app_id: str, user_id: str) -> EndUser | None:
    """A user of the app, by its row or by one of the app's last runs: a row comes up to a second after its run."""
    row = tx.row(_by_id, {"user_id": user_id, "app": app_id})
    if row is not None:
        return EndUser(*row)
    for user, created_at in tx.rows(_recent_users, {"app": app_id}):
        if ids.end_user_id(app_id, user) == user_id:
            return EndUser(user_id, app_id, user, created_at)
    return None
