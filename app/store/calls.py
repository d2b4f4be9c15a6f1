"""Which request has made which run: Idempotency-Keys, and blocking calls whose connection broke before the answer."""

from __future__ import annotations

import msgspec
from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.dialects import postgresql

from app.store.engine import Tx
from app.store.schema import idempotency_keys, now_s, open_calls

_MOST_FORGOTTEN = 500

_named = (idempotency_keys.c.key_id == bindparam("of_key"), idempotency_keys.c.name == bindparam("of_name"))
_run_of_key = select(idempotency_keys.c.run_id, idempotency_keys.c.fingerprint).where(
    *_named, idempotency_keys.c.expires_at > now_s()
)
_new_key = postgresql.insert(idempotency_keys).values(  # SQLite takes the same words
    {name: bindparam(name) for name in ("key_id", "name", "fingerprint", "run_id")}
    | {"expires_at": now_s() + bindparam("ttl_s")}
)
_claim_key = _new_key.on_conflict_do_update(
    index_elements=[idempotency_keys.c.key_id, idempotency_keys.c.name],
    set_={name: _new_key.excluded[name] for name in ("fingerprint", "run_id", "expires_at")},
    where=idempotency_keys.c.expires_at <= now_s(),
)
_oldest_keys = (
    select(idempotency_keys.c.key_id, idempotency_keys.c.name)
    .where(idempotency_keys.c.expires_at <= now_s())
    .limit(_MOST_FORGOTTEN)
)
_forget_key = delete(idempotency_keys).where(*_named, idempotency_keys.c.expires_at <= now_s())

_CALL = ("run_id", "fingerprint", "server_id")
_insert_call = postgresql.insert(open_calls).values({name: bindparam(name) for name in _CALL})
_insert_call = _insert_call.on_conflict_do_nothing(index_elements=[open_calls.c.run_id])
_same_calls = select(
    open_calls.c.run_id, open_calls.c.server_id, open_calls.c.broke_at > now_s() - bindparam("within_s")
).where(open_calls.c.fingerprint == bindparam("of_print"))
_take_call = (
    update(open_calls)
    .where(open_calls.c.run_id == bindparam("of_run"), open_calls.c.broke_at.is_not(None))
    .values(server_id=bindparam("taker"), broke_at=None)
)
_mine = (open_calls.c.run_id == bindparam("of_run"), open_calls.c.server_id == bindparam("holder"))
_answer_call = delete(open_calls).where(*_mine)
_break_call = update(open_calls).where(*_mine, open_calls.c.broke_at.is_(None)).values(broke_at=now_s())
_break_calls_of = (
    update(open_calls)
    .where(open_calls.c.server_id == bindparam("holder"), open_calls.c.broke_at.is_(None))
    .values(broke_at=now_s())
)
_holders = select(open_calls.c.server_id).where(open_calls.c.broke_at.is_(None)).distinct()
_old_calls = select(open_calls.c.run_id).where(open_calls.c.broke_at < now_s() - bindparam("since_s"))
_forget_calls = delete(open_calls).where(open_calls.c.broke_at < now_s() - bindparam("since_s"))


class OpenCall(msgspec.Struct, frozen=True):
    """A blocking call that nobody has answered yet. `is_broken`: its connection broke a short while ago."""

    run_id: str
    server_id: str
    is_broken: bool


def run_of_key(tx: Tx, key_id: str, name: str) -> tuple[str, str] | None:
    """(run, fingerprint) of an Idempotency-Key that still counts."""
    row = tx.row(_run_of_key, {"of_key": key_id, "of_name": name})
    return (row[0], row[1]) if row else None


def claim_key(tx: Tx, key_id: str, name: str, fingerprint: str, run_id: str, ttl_s: float) -> bool:
    """Gives an Idempotency-Key to a new run; False when it has one. The first to commit wins, others wait for it."""
    values = {"key_id": key_id, "name": name, "fingerprint": fingerprint, "run_id": run_id, "ttl_s": ttl_s}
    return tx.run(_claim_key, values) > 0


def insert_call(tx: Tx, run_id: str, fingerprint: str, server_id: str) -> None:
    """Notes a call that waits from now on; noted again, nothing happens."""
    tx.put(_insert_call, {"run_id": run_id, "fingerprint": fingerprint, "server_id": server_id})


def same_calls(tx: Tx, fingerprint: str, within_s: float) -> list[OpenCall]:
    """Unanswered calls with this fingerprint: those that wait, and those that broke within so many seconds."""
    rows = tx.rows(_same_calls, {"of_print": fingerprint, "within_s": within_s})
    return [OpenCall(row[0], row[1], bool(row[2])) for row in rows if row[2] is None or row[2]]


def take_call(tx: Tx, run_id: str, server_id: str) -> bool:
    """Takes over a broken call; False when another request was quicker."""
    return tx.run(_take_call, {"of_run": run_id, "taker": server_id}) > 0


def answer_call(tx: Tx, run_id: str, server_id: str) -> None:
    """The call has got its answer: nobody is to attach to it any more."""
    tx.put(_answer_call, {"of_run": run_id, "holder": server_id})


def break_call(tx: Tx, run_id: str, server_id: str) -> None:
    """The call's connection broke before the answer: the same call may attach to its run for a while."""
    tx.put(_break_call, {"of_run": run_id, "holder": server_id})


def break_calls_of(tx: Tx, server_id: str) -> int:
    """All connections of a server process broke, with itself; returns how many had waited."""
    return tx.run(_break_calls_of, {"holder": server_id})


def call_holders(tx: Tx) -> list[str]:
    """The server processes that hold connections of unanswered calls."""
    return [row[0] for row in tx.rows(_holders)]


def has_old_calls(tx: Tx, since_s: float) -> bool:
    """True when there is something to forget: keys past their time, calls that broke longer ago."""
    return bool(tx.rows(_oldest_keys) or tx.rows(_old_calls, {"since_s": since_s}))


def forget_old_calls(tx: Tx, since_s: float) -> None:
    """Deletes them, a few hundred keys at a time."""
    for key_id, name in tx.rows(_oldest_keys):
        tx.put(_forget_key, {"of_key": key_id, "of_name": name})
    tx.put(_forget_calls, {"since_s": since_s})
