"""Keys in the store, and what a process remembers of them: true while the revision stands still, and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

import pytest

from app.domain.key import KeyTerms, read_duration, read_scopes
from app.domain.request import CALLER_SCOPES, Scope
from app.errors import InvalidParam, NotFound, Unauthorized
from app.installation import FIRST_APP, publish_first_app
from app.runs.keyring import end_key, make_key, mint, replace_key
from app.runs.publications import Publications
from app.runs.revision import NOTICED_S
from app.store import accounts
from app.store.accounts import Key, token_hash
from app.store.engine import Tx
from app.store.store import Store
from tests.service.house import House, new_house

T = TypeVar("T")
TERMS = KeyTerms("ci", frozenset({Scope.RUN, Scope.ADMIN}), 7, 3, 20, 3600.0)


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[House]:
    with new_house(tmp_path, database_url) as house:
        house.store.commit_blocking(publish_first_app)
        yield house


def make(house: House, terms: KeyTerms) -> tuple[Key, str]:
    app_id, _ = house.store.read_blocking(lambda tx: accounts.find_app(tx, FIRST_APP)) or ("", "")
    new = mint()
    return house.store.commit_blocking(lambda tx: make_key(tx, app_id, new, terms)), new.token


def shown(house: House, key_id: str) -> Key:
    return next(key for key in house.store.read_blocking(accounts.list_keys) if key.id == key_id)


def is_expired(house: House, token: str) -> bool | None:
    found = house.store.read_blocking(lambda tx: accounts.find_key(tx, token_hash(token)))
    return None if found is None else found.is_expired


def revision(house: House) -> int:
    return house.store.read_blocking(accounts.find_revision)[0]


def test_a_key_is_what_it_was_given(house: House) -> None:
    made, token = make(house, TERMS)
    assert (made.app_name, made.prefix, made.state) == (FIRST_APP, token[:8], "live")
    assert made.terms == TERMS
    opened = house.store.read_blocking(lambda tx: accounts.find_key(tx, token_hash(token)))
    assert opened is not None
    caller = opened.caller
    assert (caller.key_id, caller.name, caller.scopes, caller.priority) == (made.id, "ci", TERMS.scopes, 7)
    assert (caller.max_active, caller.max_queued) == (3, 20)


def test_a_key_without_more_words_is_for_callers_and_lasts(house: House) -> None:
    made, _ = make(house, KeyTerms(""))
    assert (made.scopes, made.expires_at, made.last_used_at) == (CALLER_SCOPES, None, None)


def test_a_key_expires_by_the_databases_clock(house: House) -> None:
    made, token = make(house, TERMS)
    assert is_expired(house, token) is False
    house.store.commit_blocking(lambda tx: accounts.expire_key(tx, made.id, 0.0))
    assert is_expired(house, token) is True
    assert shown(house, made.id).state == "expired"


def test_a_rotated_key_goes_on_for_the_overlap_and_never_longer_than_before(house: House) -> None:
    (old, old_token), (short, _) = make(house, TERMS), make(house, KeyTerms("short", lasts_s=60.0))
    new = mint()
    made = house.store.commit_blocking(lambda tx: replace_key(tx, old.id, new, 600.0))
    house.store.commit_blocking(lambda tx: replace_key(tx, short.id, mint(), 600.0))
    assert made.terms == TERMS
    assert (is_expired(house, old_token), is_expired(house, new.token)) == (False, False)
    assert 590 < (shown(house, old.id).expires_at or 0) - made.created_at < 610
    assert shown(house, short.id).expires_at == short.expires_at


def test_a_changed_key_has_its_new_terms(house: House) -> None:
    made, _ = make(house, TERMS)
    terms = KeyTerms("other", frozenset({Scope.READ}), -1, 0, 7)
    house.store.commit_blocking(lambda tx: accounts.change_key(tx, made.id, terms))
    house.store.commit_blocking(lambda tx: accounts.prolong_key(tx, made.id, None))
    assert shown(house, made.id).terms == terms
    house.store.commit_blocking(lambda tx: accounts.prolong_key(tx, made.id, 60.0))
    assert 0 < (shown(house, made.id).expires_at or 0) - made.created_at < 120


def test_what_has_ended_is_not_rotated(house: House) -> None:
    revoked, expired = make(house, TERMS)[0], make(house, TERMS)[0]
    house.store.commit_blocking(lambda tx: end_key(tx, revoked.id))
    house.store.commit_blocking(lambda tx: accounts.expire_key(tx, expired.id, 0.0))
    for key in (revoked, expired):
        with pytest.raises(NotFound, match="make a new one"):
            house.store.commit_blocking(lambda tx, of=key: replace_key(tx, of.id, mint(), 0.0))


def test_a_commit_that_is_done_again_makes_no_second_key(house: House) -> None:
    old, _ = make(house, TERMS)
    new = mint()

    def again(tx: Tx) -> Key:
        tx.again = True
        try:
            return replace_key(tx, old.id, new, 0.0)
        finally:
            tx.again = False

    first = house.store.commit_blocking(lambda tx: replace_key(tx, old.id, new, 0.0))
    assert house.store.commit_blocking(again) == first
    assert len(house.store.read_blocking(accounts.list_keys)) == 2


def test_the_last_use_is_the_latest_that_any_process_noted(house: House) -> None:
    made, _ = make(house, TERMS)
    for ago_s in (50.0, 10.0, 40.0):
        house.store.commit_blocking(lambda tx, ago_s=ago_s: accounts.note_uses(tx, {made.id: ago_s}), lasting=False)
    assert -11 < (shown(house, made.id).last_used_at or 0) - made.created_at < 0


def test_every_change_raises_the_revision_and_a_use_does_not(house: House) -> None:
    made, other = make(house, TERMS)[0], make(house, TERMS)[0]

    def raises(unit: Callable[[Tx], object]) -> bool:
        before = revision(house)
        house.store.commit_blocking(unit)
        return revision(house) > before

    assert raises(lambda tx: accounts.change_key(tx, other.id, KeyTerms("other")))
    assert raises(lambda tx: accounts.prolong_key(tx, other.id, None))
    assert raises(lambda tx: accounts.expire_key(tx, other.id, 5.0))
    assert raises(lambda tx: accounts.revoke_key(tx, made.id))
    assert not raises(lambda tx: accounts.revoke_key(tx, made.id))
    assert not raises(lambda tx: accounts.note_uses(tx, {made.id: 0.0}))
    assert not raises(publish_first_app)


# What a process remembers.


@asynccontextmanager
async def remembering(house: House, watching: bool = True) -> AsyncIterator[tuple[Publications, Store]]:
    """What another process remembers of the house's keys."""
    store = Store(house.settings)
    publications = Publications(store)
    watch = asyncio.create_task(publications.watch() if watching else asyncio.sleep(60))
    yield publications, store
    watch.cancel()
    with suppress(asyncio.CancelledError):
        await watch
    await asyncio.to_thread(store.close)


async def test_a_request_costs_no_statement_for_its_key(house: House) -> None:
    _, token = make(house, TERMS)
    async with remembering(house, watching=False) as (publications, store):
        await publications.caller(token)
        assert store.reads == 2  # the revision and the key
        for _ in range(1000):
            await publications.caller(token)
        assert store.reads <= 4  # a busy machine may need a second look


async def test_what_is_revoked_elsewhere_is_refused_once_it_must_be_noticed(house: House) -> None:
    made, token = make(house, TERMS)
    async with remembering(house, watching=False) as (publications, _):  # its looks are overdue
        await publications.caller(token)
        house.store.commit_blocking(lambda tx: end_key(tx, made.id))
        await asyncio.sleep(NOTICED_S)
        with pytest.raises(Unauthorized, match="Access token is invalid"):
            await publications.caller(token)


async def test_a_key_that_is_remembered_still_expires(house: House) -> None:
    _, token = make(house, KeyTerms("short", lasts_s=1.5))
    async with remembering(house) as (publications, store):
        await publications.caller(token)

        async def until_refused() -> None:
            while True:
                await publications.caller(token)
                await asyncio.sleep(0.02)

        with pytest.raises(Unauthorized, match="Access token has expired"):
            await asyncio.wait_for(until_refused(), 20)
        reads = store.reads
        with pytest.raises(Unauthorized, match="Access token has expired"):
            await publications.caller(token)
        assert store.reads <= reads + 1, "an expired key is looked up again and again"


async def test_a_use_is_written_in_the_background(house: House) -> None:
    made, token = make(house, TERMS)
    async with remembering(house) as (publications, store):
        await publications.caller(token)
        for _ in range(200):
            if used := shown(house, made.id).last_used_at:
                break
            await asyncio.sleep(0.05)
        assert used is not None
        assert abs(used - made.created_at) < 60
        await publications.caller(token)
        assert store.transactions == 1, "a use that was written a moment ago is written again"


# What people write.


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("24h", 86400), ("30d", 2592000), ("0s", 0)])
def test_a_duration_has_a_unit(text: str, seconds: int) -> None:
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1.5h", "30 days", "99999w", "٣d"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(InvalidParam, match="use a number with s, m, h, d or w"):
        read_duration(text)


def test_scopes_are_written_with_commas() -> None:
    assert read_scopes("run, read") == {Scope.RUN, Scope.READ}
    assert read_scopes("all") == set(Scope)
    for wrong in ("", "run,write", "run,,read"):
        with pytest.raises(InvalidParam, match="There is no scope"):
            read_scopes(wrong)
