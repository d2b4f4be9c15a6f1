"""Making, ending and replacing keys: the same for the API, whose caller is a key itself, and for the command."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from app import ids
from app.domain.key import KeyTerms, require_within
from app.domain.request import Caller
from app.errors import NotFound
from app.runs.revision import NOTICED_S
from app.store import accounts
from app.store.accounts import Key, KeyState
from app.store.engine import Tx
from app.store.store import Store

_PREFIX_LETTERS = 8


class Minted(NamedTuple):
    """A new key's id and token, made before the transaction: one that is done again makes no second key."""

    id: str
    token: str


def mint() -> Minted:
    return Minted(ids.new_id(), ids.new_key())


def make_key(tx: Tx, app_id: str, new: Minted, terms: KeyTerms) -> Key:
    """Stores a new key of the app; its token is nowhere but in `new`."""
    prefix = new.token[:_PREFIX_LETTERS]
    limits = (terms.max_active, terms.max_queued)
    key = Key(new.id, "", terms.name, prefix, 0.0, None, terms.priority, terms.scopes, *limits)
    accounts.insert_key(tx, key, app_id, new.token, terms.lasts_s)
    return _find(tx, new.id)


def end_key(tx: Tx, key_id: str, caller: Caller | None = None) -> Key:
    """Revokes a key; twice is the same as once. Raises NotFound, also for a key of an app that is not the caller's."""
    _find(tx, key_id, caller)
    accounts.revoke_key(tx, key_id)
    return _find(tx, key_id)


def replace_key(tx: Tx, key_id: str, new: Minted, overlap_s: float, caller: Caller | None = None) -> Key:
    """A new key on the old one's terms; the old one ends after the overlap, or sooner if it would have anyway.

    The new one lasts as long as the old one was given when it was made. Raises NotFound, as `end_key` does and for a
    key that has ended, and Forbidden when the caller could not make such a key.
    """
    done = accounts.find_key_by_id(tx, new.id) if tx.again else None
    if done is not None:
        return done
    old = find_live_key(tx, key_id, caller)
    if caller is not None:
        require_within(old.terms, caller)
    made = make_key(tx, old.app_id, new, old.terms)
    accounts.expire_key(tx, key_id, overlap_s)
    return made


def find_live_key(tx: Tx, key_id: str, caller: Caller | None = None) -> Key:
    """Raises NotFound: there is no such key, it is of an app that is not the caller's, or it has ended."""
    key = _find(tx, key_id, caller)
    if key.state != "live":
        raise NotFound(f"The key is {key.state}: make a new one.")
    return key


class Keyring:
    """What a caller with the scope `admin` does with the keys of its own app."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def list(self, caller: Caller, state: KeyState | None = None) -> list[Key]:
        """The keys of the caller's app that stand so, or all of them, the newest first."""
        found = await self._store.read(lambda tx: accounts.list_keys(tx, caller.app_id))
        return [key for key in reversed(found) if state in (None, key.state)]

    async def create(self, caller: Caller, terms: KeyTerms) -> tuple[Key, str]:
        """(the new key, its token, which nobody will see again). Raises Forbidden for more than the caller has."""
        require_within(terms, caller)
        new = mint()
        return await self._store.commit(lambda tx: make_key(tx, caller.app_id, new, terms)), new.token

    async def revoke(self, caller: Caller, key_id: str) -> Key:
        """Ends a key; once this returns, every process refuses it. Raises NotFound."""
        ended = await self._store.commit(lambda tx: end_key(tx, key_id, caller))
        await asyncio.sleep(NOTICED_S)
        return ended

    async def rotate(self, caller: Caller, key_id: str, overlap_s: float) -> tuple[Key, str]:
        """(the key that takes its place, its token). Raises NotFound, Forbidden.

        Once this returns no process lets the old one live longer than the overlap.
        """
        new = mint()
        made = await self._store.commit(lambda tx: replace_key(tx, key_id, new, overlap_s, caller))
        if overlap_s < NOTICED_S:
            await asyncio.sleep(NOTICED_S)
        return made, new.token


def _find(tx: Tx, key_id: str, caller: Caller | None = None) -> Key:
    key = accounts.find_key_by_id(tx, key_id) if "\0" not in key_id else None  # PostgreSQL has no such text
    if key is None or (caller is not None and key.app_id != caller.app_id):
        raise NotFound("There is no such key.")
    return key
